"""One kit for every figure: plots, diagrams and tiles, as SVG in light and dark, or as PNG."""
