"""Tests of rsseg/quantization."""
