"""Tests of rsseg/weights."""
