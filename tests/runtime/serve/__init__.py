"""Tests of rsseg/runtime/serve."""
