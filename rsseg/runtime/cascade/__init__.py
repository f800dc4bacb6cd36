"""High resolutions only for images whose answer is unsure."""
