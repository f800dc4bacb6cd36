"""Tests of rsseg/training/adapt."""
