"""edgeq: a float model goes in, an INT8 deployment measured on the device comes out."""

__version__ = "0.1.0"
