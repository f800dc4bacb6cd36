"""What is wrong with a machine or a configuration, and the remedy."""
