"""Tests of rsseg/runtime/benchmark."""
