"""Expected values of other implementations, and the scripts that made the files."""
