"""Figures of a whole model: filters, positions, distances, similarity."""
