"""A model behind HTTP: bounded queues, deadlines, small batches."""
