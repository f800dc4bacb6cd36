"""Readers and views of the data sets; used from a checkout, not installed with rsseg."""
