"""Pages and figures about a run or a dataset."""
