"""A classifier measured on a split: as it is, calibrated, beside another, on corrupted images."""
