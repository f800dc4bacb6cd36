"""Tests of datasets/init."""
