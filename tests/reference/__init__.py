"""Slow, plain NumPy implementations that the package is compared with."""
