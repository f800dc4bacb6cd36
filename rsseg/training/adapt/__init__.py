"""From a trained network to the start of a switchable one."""
