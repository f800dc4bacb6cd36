"""Latency and memory of a network on this machine."""
