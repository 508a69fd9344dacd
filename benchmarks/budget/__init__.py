"""Which family, size and recipe a budget buys: a search by validation, equal effort for each."""
