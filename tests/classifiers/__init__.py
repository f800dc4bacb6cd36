"""Tests of rsseg/classifiers."""
