"""The writer of small TFLite files, for tests."""

from edgeq.models.write_tflite import Graph, Node, Tensor, tflite_bytes, write_tflite

__all__ = ["Graph", "Node", "Tensor", "tflite_bytes", "write_tflite"]
