"""Benchmarks: what the published form costs, re-written by us, and what ours costs beside it.

Each file is a script of its own (`python -m benchmarks.step` or `python benchmarks/step.py`). What
they share is in `harness`, the peers in `peers`; `report` makes docs/BENCHMARKS.md of the results.
"""
