"""Tests of rsseg/doctor."""
