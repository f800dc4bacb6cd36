"""Section 3.2 of the paper: multi-resolution ensemble distillation (MRED)."""
