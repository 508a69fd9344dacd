"""What computes a model: normalised images in, logits out, whichever engine does it."""
