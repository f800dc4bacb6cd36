"""From a published ImageNet checkpoint to one of ours, which every command takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rsseg.classifiers.build import ClassifierConfig
from rsseg.classifiers.head import ClassificationHead
from rsseg.classifiers.published import read_published
from rsseg.common.checkpoint import CheckpointError, write_checkpoint
from rsseg.common.config import plain
from rsseg.common.files import check_output
from rsseg.common.messages import counted
from rsseg.switchable.complexity import batchnorm_parameters, count_macs, count_parameters
from rsseg.training.metadata import RunMetadata


def import_published(
    path: Path,
    out: Path,
    *,
    resolutions: Sequence[int] | None = None,
    classes: Sequence[str] | None = None,
    overwrite: bool = False,
) -> RunMetadata:
    """Write the network of a published file as a checkpoint of rsseg.

    Args:
        path: Published file.
        out: The checkpoint to write.
        resolutions: What the network was trained for, see `load_published`.
        classes: Names of the classes; default is "class 0" and so on.
        overwrite: Write over a file that exists.

    Returns:
        The checkpoint's metadata.

    Raises:
        CheckpointError: If the file cannot be read, or the number of names is not the number of
            classes.
        ValueError: If `out` exists or cannot be written.
    """
    check_output(out, overwrite=overwrite)
    net, preprocessing, keywords = read_published(path, resolutions)
    model = ClassifierConfig(**keywords)
    names = list(classes or (f"class {index}" for index in range(model.classes)))
    if len(names) != model.classes:
        raise CheckpointError(
            f"{path} knows {counted(model.classes, 'class')}; expected as many "
            f"names, got {len(names)}"
        )
    sides = net.resolutions
    macs = {name: count_macs(net, side) for name, side in zip(sides.names, sides, strict=True)}
    metadata = RunMetadata(
        task=ClassificationHead.name,
        name=path.name,
        imported=path.name,
        model=plain(model),
        resolutions=sides,
        preprocessing=preprocessing,
        classes=tuple(names),
        parameters=count_parameters(net),
        batchnorm_parameters=batchnorm_parameters(net),
        macs=macs,
    )
    settings = _settings(metadata.plain(), scores=net.scores is not None)
    metadata = replace(metadata, config=settings)
    write_checkpoint(out, {"metadata": metadata.plain(), "net": net.state_dict()})
    return metadata


def _settings(metadata: dict[str, Any], *, scores: bool) -> dict[str, Any]:
    """Return the settings of the paper's training, which an evaluation needs."""
    mobile = metadata["model"]["name"] == "mobilenetv2"
    settings = {key: metadata[key] for key in ("model", "resolutions", "preprocessing")}
    return {
        **settings,
        "distillation": "full" if scores else "none",
        "data": {"root": "data/imagenet"},
        "epochs": 150 if mobile else 120,
        "batch_size": 256,
        "optim": {"lr": 0.05 if mobile else 0.1, "weight_decay": 4e-5 if mobile else 1e-4},
    }
