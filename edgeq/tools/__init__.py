"""External compilers, each in a virtual environment of its own, driven as a subprocess."""
