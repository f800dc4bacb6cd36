"""Weights that a run starts from: what a file holds, which network it fits, how it is loaded."""
