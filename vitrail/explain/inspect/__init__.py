"""Figures of a complete model: filters, positions, distances, similarity."""
