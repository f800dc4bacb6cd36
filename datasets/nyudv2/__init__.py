"""NYU Depth V2: the official file, prepared folders, and the commands around them."""
