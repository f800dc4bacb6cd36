"""Tests of rsseg/runtime."""
