"""Classification networks, and the weights that the paper's authors published."""
