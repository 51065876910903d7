"""Show results: JSON documents for scripts, tables for people. Pure: no input or output."""
