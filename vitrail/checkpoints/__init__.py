"""Checkpoints of other libraries, read and written by literal rules."""
