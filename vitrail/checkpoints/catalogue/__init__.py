"""Published weights and models, as rows."""
