"""What a run learns: what a batch becomes, its loss, how it is validated."""
