"""Tiny models and data sets for tests, of this project and of plug-ins."""
