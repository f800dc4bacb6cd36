"""Crops and flips of every classifier's file: read back from the views that training is given.

The images are a picture whose colours tell the place of a pixel: red how far right it is, green
how far down. So the crop can be read from a view.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from classification.config import ClassificationConfig
from datasets.classification import training_batches
from rsseg.common.config import load_config
from rsseg.common.yaml_files import read_yaml
from tests.configs.test_configs import FILES, command
from tests.helpers.processes import ROOT

CLASSIFIERS = [file for file in FILES if command(file)[0] == "train_cls.py"]
BATCH = 2
LOOKED_AT = 40  # Batches


def small_side(side: int) -> int:
    """Give a small resolution for a real one, in the same order, equal only for equal ones."""
    # Above 32: a last BatchNorm of 2 values for each channel would have wild gradients.
    return 33 + side // 32


def small_values(written: dict[str, Any], roots: dict[int, Path]) -> list[str]:
    """Return the settings to override in a file, so that its run is small."""
    sides = [small_side(side) for side in written["resolutions"]]
    root = roots[written["model"]["classes"]]
    return [f"resolutions={sides}", f"data.root={root}", f"batch_size={BATCH}", "workers=0"]


def write_all_images(folder: Path) -> dict[int, Path]:
    """Write an image folder for each number of classes, 10 and 1000."""
    ramp = ((np.arange(96) + 0.5) / 96 * 255).astype(np.uint8)
    right, down = np.meshgrid(ramp, ramp)
    picture = Image.fromarray(np.stack([right, down, np.full_like(down, 128)], axis=2))
    picture.save(folder / "picture.jpg", quality=95, subsampling=0)
    content = (folder / "picture.jpg").read_bytes()
    for classes, split in itertools.product((10, 1000), ("train", "val")):
        images = {10: 8, 1000: 1}[classes] if split == "train" else 1
        # The classes of a split are one folder under many names: a thousand take long to write.
        below = folder / f"images{classes}{split}"
        below.mkdir()
        for image in range(images):
            (below / f"{image}.jpg").write_bytes(content)
        (folder / str(classes) / split).mkdir(parents=True)
        for label in range(classes):
            (folder / str(classes) / split / f"class{label:04d}").symlink_to(below)
    return {classes: folder / str(classes) for classes in (10, 1000)}


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    return write_all_images(tmp_path_factory.mktemp("images"))


def places(views: Tensor) -> Tensor:
    """Read from the colours what was cropped: centre x, y and extent x, y (below 0: mirrored).

    Args:
        views: uint8, shape (B, 3, r, r).

    Returns:
        Shares of the image's sides, shape (B, 4).
    """
    side, half = views.shape[-1], views.shape[-1] // 2
    red, green = views[:, 0].float().mean(1) / 255, views[:, 1].float().mean(2) / 255
    # The centres of the two halves lie (side - half) pixels apart.
    extents = [
        (line[:, -half:].mean(1) - line[:, :half].mean(1)) * side / (side - half)
        for line in (red, green)
    ]
    return torch.stack([red.mean(1), green.mean(1), *extents], dim=1)


@pytest.fixture(scope="module", params=CLASSIFIERS)
def drawn(request: pytest.FixtureRequest, roots: dict[int, Path]) -> tuple[dict[str, Any], Tensor]:
    """The augmentation of a file, and the places of many views, shape (S, N, 4)."""
    written = read_yaml(ROOT / request.param)
    config = load_config(ClassificationConfig, ROOT / request.param, small_values(written, roots))
    batches = itertools.islice(training_batches(config).epoch(0), LOOKED_AT)
    found = [torch.stack([places(view) for view in views]) for views, _ in batches]
    settings: dict[str, Any] = written["augmentation"]
    return settings, torch.cat(found, dim=1)


def test_crops_and_flips_are_those_of_the_file(drawn: tuple[dict[str, Any], Tensor]) -> None:
    settings, found = drawn
    mirrored = found[..., 2] < 0
    crops = torch.stack([found[..., 0], found[..., 1], found[..., 2].abs(), found[..., 3]], dim=2)
    apart = (crops[1:] - crops[0]).abs().amax(dim=2)
    if settings["crops"] == "single":
        assert (apart < 0.05).all()
    else:
        assert (apart > 0.05).float().mean() > 0.9
    if settings["flips"] == "single":
        assert torch.equal(mirrored, mirrored[0].expand_as(mirrored))
    else:
        differs = 2 * settings["flip"] * (1 - settings["flip"])
        assert (mirrored[1:] != mirrored[0]).float().mean().item() == pytest.approx(
            differs, abs=0.2
        )
    for views in mirrored:
        assert float(views.float().mean()) == pytest.approx(settings["flip"], abs=0.2)


def test_crops_have_area_and_aspect_of_the_file(drawn: tuple[dict[str, Any], Tensor]) -> None:
    settings, found = drawn
    width, height = found[0, :, 2].abs(), found[0, :, 3]
    areas, aspects = width * height, width / height
    for values, (low, high) in ((areas, settings["area"]), (aspects, settings["aspect"])):
        assert low - 0.05 < float(values.min()) < low + 0.1
        assert high - 0.25 < float(values.max()) < high + 0.1
