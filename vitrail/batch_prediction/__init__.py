"""Many images classified in parts, each written once: a kill costs the part that was at work."""
