"""Figures of predictions against labels, and their intervals."""
