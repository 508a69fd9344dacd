"""The folder that holds a model: weights, record, card."""
