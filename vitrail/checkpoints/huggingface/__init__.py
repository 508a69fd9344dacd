"""The layout of Hugging Face transformers: names, configuration, preprocessing."""
