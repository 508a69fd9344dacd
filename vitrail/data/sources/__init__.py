"""Where images and labels come from, and the splits made of them."""
