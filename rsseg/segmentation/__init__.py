"""The segmentation head: RefineNet and every other segmenter, and how they are judged.

A name is imported when it is first used; their types are in `__init__.pyi`.
"""

from importlib import import_module
from typing import Final

_MODULES: Final = {
    "RefineNet": "rsseg.segmentation.refinenet",
    "SegmentationEvaluator": "rsseg.segmentation.evaluate",
    "build_segmenter": "rsseg.segmentation.model",
}
__all__ = [*_MODULES]  # noqa: PLE0604 Strings all.


def __getattr__(name: str) -> object:
    """Return a public name from the module that defines it (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value  # Python looks here first the next time.
    return value
