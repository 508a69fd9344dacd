"""Data: sources, decoding, preprocessing, augmentation, order and loaders."""
