"""Tests of rsseg/cli."""
