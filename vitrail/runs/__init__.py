"""What lies in a run directory, and reading it safely."""
