"""Batches in an order that follows from the seed, read by worker processes."""
