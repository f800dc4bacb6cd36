"""Files for phones and accelerators: one model of fixed shape for each resolution, weights once."""
