"""What is wrong with a dataset: near-duplicates, leaks, odd images."""
