"""Files of tensors: opened, read within limits, written; nothing of a model is known here."""
