"""Tests of datasets/rooms."""
