"""The types of PyTorch, for signatures in modules that do not load it; the stub says what they are.

A service on an exported file computes without PyTorch, which would take most of its memory. What
such a process imports names these types alone, and loads PyTorch where a tensor comes or goes.
"""

from __future__ import annotations

import sys
from typing import Any

Module = Tensor = Any


def loaded_torch() -> Any:
    """Return PyTorch if this process has loaded it already, else None."""
    return sys.modules.get("torch")
