"""Tests of rsseg/runtime/predict."""
