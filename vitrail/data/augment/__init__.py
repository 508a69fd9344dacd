"""Random changes of training images, one at a time or a batch at once."""
