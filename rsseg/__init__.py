"""Resolution switchable networks: one network, its input resolution chosen at run time.

Shapes are written (S, B, K) for logits of labels and (S, B, K, H, W) for logits of label maps: S
resolutions (largest first), B images, K classes, H and W in pixels. In formulas z are logits, p
probabilities, a the raw scores of the ensemble, alpha = softmax(a).

A name is imported from its module when it is first used: `import rsseg` alone loads nothing else.
Their types are in `__init__.pyi`.
"""

from importlib import import_module
from typing import Final

__version__ = "0.2.0"

_MODULES: Final = {
    "HubNet": "rsseg.hub",
    "MREDLosses": "rsseg.losses.mred",
    "Preprocessing": "rsseg.images.preprocessing",
    "SwitchableBatchNorm2d": "rsseg.switchable.layers",
    "SwitchableNet": "rsseg.switchable.net",
    "convert_to_switchable": "rsseg.switchable.convert",
    "count_macs": "rsseg.switchable.complexity",
    "ensemble_logits": "rsseg.losses.mred",
    "interpolate_set": "rsseg.switchable.unseen",
    "load_checkpoint": "rsseg.load",
    "load_published": "rsseg.classifiers.published",
    "mred_loss": "rsseg.losses.mred",
    "pixelwise_mred_loss": "rsseg.losses.pixelwise",
    "recalibrate": "rsseg.switchable.unseen",
    "save_checkpoint": "rsseg.save",
    "specialize": "rsseg.switchable.convert",
    "switch": "rsseg.switchable.convert",
    "views": "rsseg.batch_views",
}
__all__ = [*_MODULES]  # noqa: PLE0604 Strings all, as the tests check.


def __getattr__(name: str) -> object:
    """Return a public name from the module that defines it (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module 'rsseg' has no attribute {name!r}")
    value: object = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value  # Python looks here first the next time.
    return value


def __dir__() -> list[str]:
    """Return the public names and what the module holds."""
    return sorted({*globals(), *__all__})
