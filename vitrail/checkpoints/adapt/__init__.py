"""A read model fitted to another size: position embeddings, patches, head."""
