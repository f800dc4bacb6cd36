"""Tests of rsseg/runtime/fixed_shapes."""
