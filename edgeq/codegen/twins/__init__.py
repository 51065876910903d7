"""Operators computed on this host as tflite-micro does, where LiteRT's reference kernels do otherwise."""
