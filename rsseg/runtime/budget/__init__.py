"""The resolution that keeps a latency budget."""
