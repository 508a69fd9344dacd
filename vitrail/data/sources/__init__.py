"""Where images and labels come from, and the splits made of them."""

from vitrail.data.sources.open_data import open_data

__all__ = ["open_data"]  # scripts import it from here
