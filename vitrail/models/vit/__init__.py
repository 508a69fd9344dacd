"""The Vision Transformer and its stems."""
