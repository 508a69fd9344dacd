"""Corrupted images, and what they cost a model."""
