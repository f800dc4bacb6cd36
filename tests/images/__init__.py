"""Tests of rsseg/images."""
