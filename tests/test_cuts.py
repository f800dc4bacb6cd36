"""Crops that are resized on the device: the same views as those of the loader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import train_cls
from datasets.classification import training_batches
from rsseg.cuts import Cut, CutBatch
from rsseg.preprocessing import resize_image
from tests.small_images import image_config, write_images
from tests.small_runs import assert_equal

CPU = torch.device("cpu")


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("each", ["single", "per_resolution"])
def test_views_made_later_are_those_of_the_loader(tmp_path: Path, each: str, workers: int) -> None:
    root = write_images(tmp_path)
    augmentation = {"crops": each, "flips": each}

    def batches(place: str) -> list[Any]:
        data = {"root": str(root), "resize_on": place}
        config = image_config(root, data=data, augmentation=augmentation, workers=workers)
        return list(training_batches(config).epoch(0))

    for (views, target), (cuts, same) in zip(batches("loader"), batches("device"), strict=True):
        assert isinstance(cuts, CutBatch)
        assert torch.equal(target, same)
        made = cuts.views(CPU, (48, 32), None)
        assert all(torch.equal(a, b) for a, b in zip(views, made, strict=True))
        (only,) = cuts.views(CPU, (48, 32), [1])
        assert torch.equal(only, views[1])


def test_run_is_the_same_wherever_its_views_are_made(tmp_path: Path) -> None:
    root = write_images(tmp_path / "data")
    config = tmp_path / "small.yaml"
    config.write_text(
        "model: {name: resnet18, classes: 3}\nresolutions: [40, 36, 34, 32]\nepochs: 1\n"
        f"sandwich: true\nbatch_size: 4\noptim: {{lr: 0.02}}\ndata: {{root: {root}}}\n"
        "workers: 0\ndevice: cpu\n"
    )
    states = []
    for place in ("loader", "device"):
        run = tmp_path / place
        command = [config, "--run", run, "--set", f"data.resize_on={place}"]
        assert train_cls.main([str(part) for part in command]) == 0
        states.append(torch.load(run / "last.pt", weights_only=True)["net"])
    assert_equal(*states)


def test_resizing_floats_and_rounding_is_within_a_level_of_resizing_integers() -> None:
    # What a device does that resizes floats alone.
    image = torch.randint(0, 256, (3, 70, 50), dtype=torch.uint8)
    exact = resize_image(image, (32, 24)).int()
    floats = resize_image(image.float(), (32, 24)).round().clamp(0, 255).int()
    assert (exact - floats).abs().max() <= 1


def test_single_crop_serves_all_resolutions() -> None:
    piece = torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8)
    cut = Cut((piece,), (False, True))
    assert torch.equal(cut.view(0, 40), piece)
    assert torch.equal(cut.view(1, 40), piece.flip(-1))
