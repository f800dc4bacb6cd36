"""Resolution switchable networks: one network, its input resolution chosen at run time.

Shapes are written (S, B, K) for logits of labels and (S, B, K, H, W) for logits of label maps: S
resolutions (largest first), B images, K classes, H and W in pixels. In formulas z are logits, p
probabilities, a the raw scores of the ensemble, alpha = softmax(a).
"""

from rsseg.classifiers.published import load_published
from rsseg.common.complexity import count_macs
from rsseg.load import load_checkpoint
from rsseg.losses.mred import MREDLosses, ensemble_logits, mred_loss
from rsseg.losses.pixelwise import pixelwise_mred_loss
from rsseg.switchable.convert import (
    SwitchableBatchNorm2d,
    convert_to_switchable,
    specialize,
    switch,
)
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.unseen import interpolate_set, recalibrate

__all__ = [
    "MREDLosses",
    "SwitchableBatchNorm2d",
    "SwitchableNet",
    "convert_to_switchable",
    "count_macs",
    "ensemble_logits",
    "interpolate_set",
    "load_checkpoint",
    "load_published",
    "mred_loss",
    "pixelwise_mred_loss",
    "recalibrate",
    "specialize",
    "switch",
]
