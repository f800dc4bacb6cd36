"""Crops that are resized on the device: the same views as those of the loader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import train_cls
from datasets.classification import training_batches
from rsseg.images.crops import Crop, CropBatch
from tests.helpers.small_images import image_config, write_images

CPU = torch.device("cpu")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("each", ["single", "per_resolution"])
def test_views_made_later_are_those_of_the_loader_to_a_grey_level(
    tmp_path: Path, each: str, workers: int
) -> None:
    root = write_images(tmp_path)
    augmentation = {"crops": each, "flips": each}

    def batches(place: str) -> list[Any]:
        data = {"root": str(root), "resize_on": place}
        config = image_config(root, data=data, augmentation=augmentation, workers=workers)
        return list(training_batches(config).epoch(0))

    for (views, target), (crops, same) in zip(batches("loader"), batches("device"), strict=True):
        assert isinstance(crops, CropBatch)
        assert torch.equal(target, same)
        made = crops.views(CPU, (48, 32), None)
        for one, other in zip(views, made, strict=True):
            difference = (one.int() - other.int()).abs()
            assert difference.max() <= 2
            assert difference.float().mean() < 0.5
        (only,) = crops.views(CPU, (48, 32), [1])
        assert torch.equal(only, made[1])


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.booleans())
def test_batched_resize_equals_torchs_of_each_image(
    height: int, width: int, side: int, mirrored: bool
) -> None:
    draw = torch.Generator().manual_seed(height * 100 + width)
    pieces = [
        torch.randint(0, 256, (3, *size), generator=draw, dtype=torch.uint8)
        for size in ((height, width), (40, 33), (width, height))
    ]
    batch = CropBatch.of([Crop((piece,), (mirrored,)) for piece in pieces])
    (views,) = batch.views(CPU, [side], None)
    for piece, view in zip(pieces, views, strict=True):
        exact = F.interpolate(piece[None].double(), (side, side), mode="bilinear", antialias=True)
        exact = exact[0].flip(-1) if mirrored else exact[0]
        assert (view.double() - exact).abs().max() <= 0.5 + 1e-2


def test_run_goes_the_same_way_wherever_its_views_are_made(tmp_path: Path) -> None:
    root = write_images(tmp_path / "data")
    config = tmp_path / "small.yaml"
    config.write_text(
        "model: {name: test_resnet, classes: 3}\nresolutions: [40, 36, 34, 32]\nepochs: 1\n"
        f"sandwich: true\nbatch_size: 12\noptim: {{lr: 0.02}}\ndata: {{root: {root}}}\n"
        "workers: 0\ndevice: cpu\n"
    )
    states = []
    for place in ("loader", "device"):
        run = tmp_path / place
        command = [config, "--run", run, "--set", f"data.resize_on={place}"]
        assert train_cls.main([str(part) for part in command]) == 0
        states.append(json.loads((run / "log.jsonl").read_text().splitlines()[0])["total"])
    assert states[0] == pytest.approx(states[1], rel=0.02)


def test_single_crop_serves_all_resolutions() -> None:
    piece = torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8)
    crop = Crop((piece,), (False, True))
    plain, mirrored = crop.views([40, 40])
    assert torch.equal(plain, piece)
    assert torch.equal(mirrored, piece.flip(-1))
