"""Models: architectures as plain modules, and their configurations."""
