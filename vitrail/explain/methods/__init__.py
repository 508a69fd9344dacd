"""Maps of what an answer rests on, one method a file; `registry.py` lists them."""
