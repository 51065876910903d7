"""Numbers only: what quantization does to tensors. NumPy; knows no model format."""
