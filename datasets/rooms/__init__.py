"""Drawn rooms in the layout of NYU Depth V2: data for the demo and the tests."""
