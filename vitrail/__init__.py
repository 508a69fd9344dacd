"""Vitrail trains, compares, explains and ships Vision Transformer image classifiers."""
