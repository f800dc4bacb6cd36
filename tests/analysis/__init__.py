"""Tests of rsseg/analysis."""
