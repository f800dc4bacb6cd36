"""Tests of rsseg/segmentation."""
