"""Layouts of images that users have, made from drawn ones: `python -m benchmarks.layouts`."""
