"""Numbers and pictures behind the paper's tables and figures."""
