"""Training: the loop, its objectives, optimisers, schedules and checkpoints."""
