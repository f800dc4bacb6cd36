"""Checkpoint files of small trained networks, as runs write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from rsseg.common import checkpoint
from rsseg.heads import HEADS
from rsseg.switchable.net import SwitchableNet
from tests.helpers.small_networks import randomise

RESOLUTIONS = [64, 32]
CLASSES = ["church", "tench", "golf ball"]
# A crop tells the resolution's own size apart from that of the image.
PREPROCESSING = {"fit": "crop", "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.2, 0.3]}
MODELS: dict[str, dict[str, Any]] = {
    "classification": {"name": "mobilenetv2_035", "classes": 3},
    "segmentation": {"architecture": "unet", "encoder_name": "resnet18", "classes": 3},
}


def write_checkpoint(path: Path, task: str = "classification", **values: Any) -> Path:
    """Write the checkpoint of a network with random weights, the same each time."""
    torch.manual_seed(0)
    net = SwitchableNet(HEADS[task].network(MODELS[task]), RESOLUTIONS)
    randomise(net)
    metadata = {
        "task": task,
        "model": MODELS[task],
        "resolutions": RESOLUTIONS,
        "batchnorm": "private",
        "preprocessing": PREPROCESSING if task == "classification" else {},
        "classes": CLASSES,
        **values,
    }
    checkpoint.write_checkpoint(path, {"metadata": metadata, "net": net.state_dict()})
    return path
