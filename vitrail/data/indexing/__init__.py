"""Shards written from other data, and indices made of shards that are there."""
