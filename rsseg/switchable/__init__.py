"""Section 3.1 of the paper: one network, a private BatchNorm for every resolution."""
