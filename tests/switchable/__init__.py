"""Tests of rsseg/switchable."""
