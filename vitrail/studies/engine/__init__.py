"""How the cells of a study are computed, stored and found again."""
