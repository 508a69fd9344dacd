"""The residual network for small images."""
