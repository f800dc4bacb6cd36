"""Use after training: exported files, executors, budgets, services."""
