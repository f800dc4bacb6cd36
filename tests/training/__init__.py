"""Tests of rsseg/training."""
