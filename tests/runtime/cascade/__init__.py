"""Tests of rsseg/runtime/cascade."""
