"""One file for each library whose checkpoints are read and written; `registry.py` lists them."""
