"""Tests of rsseg/common."""
