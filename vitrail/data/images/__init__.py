"""From the bytes of one image to the tensor that a model sees."""
