"""Use after training: exported files, executors, budgets, services.

`Predictor` is imported when it is first used; its type is in `__init__.pyi`.
"""

from importlib import import_module

__all__ = ["Predictor"]


def __getattr__(name: str) -> object:
    """Return a public name from the module that defines it (PEP 562)."""
    if name != "Predictor":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = import_module("rsseg.runtime.predictor").Predictor
    globals()[name] = value  # Python looks here first the next time.
    return value
