"""Tests of datasets/imagenet."""
