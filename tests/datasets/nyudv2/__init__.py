"""Tests of datasets/nyudv2."""
