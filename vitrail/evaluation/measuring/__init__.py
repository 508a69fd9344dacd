"""A classifier measured on a split: as it is, calibrated, against another, on corrupted images."""
