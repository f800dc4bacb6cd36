"""Tests of rsseg/runtime/budget."""
