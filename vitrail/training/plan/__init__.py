"""The settings of a run resolved against data and machine, each with its source and reason."""
