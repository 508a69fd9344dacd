"""Rules from the tensors of one layout to those of another, and what is said of a file."""
