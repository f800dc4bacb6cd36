"""Tests of rsseg/runtime/web."""
