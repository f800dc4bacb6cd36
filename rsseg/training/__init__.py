"""A training run: its settings, its steps, its folder."""
