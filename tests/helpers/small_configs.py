"""A configuration as small as can be, and the folders that it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

SMALL: dict[str, Any] = {
    "resolutions": [64, 32],
    "epochs": 1,
    "batch_size": 4,
    "optim": {"lr": 0.1},
    "workers": 2,
    "device": "cpu",
}


def write_config(path: Path, **values: Any) -> Path:
    """Write a configuration, SMALL but for the given settings."""
    path.write_text(yaml.safe_dump({**SMALL, **values}))
    return path


def write_splits(root: Path) -> Path:
    """Make the folders of a data set of images that holds none."""
    for split in ("train", "val"):
        for name in ("class", "other"):
            (root / split / name).mkdir(parents=True)
    return root
