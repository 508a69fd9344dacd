"""Studies: cells (settings and a seed), their cached rows, a table, a figure and a verdict."""
