"""The paper's experiments, one file each; `registry.py` lists them."""
