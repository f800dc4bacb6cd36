"""Tests of rsseg/losses."""
