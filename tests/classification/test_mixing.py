"""MixUp and CutMix: the same mixing at all resolutions, and labels that fit it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from classification.config import ClassificationConfig
from classification.mixing import build_mix
from tests.helpers.small_images import image_config

SIDES = (64, 32, 16)
TARGET = torch.tensor([0, 1, 2, 0])


def config(**mixing: float) -> ClassificationConfig:
    return image_config(Path(), mixing=mixing)


def batch() -> list[Tensor]:
    """Images that are flat: each value is the number of the image."""
    return [torch.arange(4.0).view(4, 1, 1, 1).expand(4, 3, s, s).contiguous() for s in SIDES]


def mixed(seed: int, **mixing: float) -> tuple[list[Tensor], Tensor]:
    mix = build_mix(config(**mixing))
    assert mix is not None
    torch.manual_seed(seed)
    return mix(batch(), TARGET)


def test_no_mixing_is_the_default() -> None:
    assert build_mix(config()) is None


@pytest.mark.parametrize("seed", range(8))
def test_mixup_takes_one_share_and_partner_for_all_resolutions(seed: int) -> None:
    views, shares = mixed(seed, mixup=0.4)
    assert [type(view) for view in views] == [Tensor] * 3
    for image in range(4):
        values = {round(float(v), 5) for view in views for v in view[image].flatten().tolist()}
        assert len(values) == 1
        own = shares[image, TARGET[image]]
        partner = (image - 1) % 4
        own = own if TARGET[partner] != TARGET[image] else torch.tensor(float("nan"))
        if own.isfinite():
            expected = own * image + (1 - own) * partner
            assert values.pop() == pytest.approx(float(expected), abs=1e-4)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(4))


@pytest.mark.parametrize("seed", range(8))
def test_cutmix_takes_one_rectangle_relative_to_the_size(seed: int) -> None:
    views, shares = mixed(seed, cutmix=1.0)
    pasted = [(view[1, 0] != 1) for view in views]
    share = pasted[0].double().mean()
    assert float(1 - shares[1, TARGET[1]]) == pytest.approx(float(share), abs=1e-6)
    for mask in pasted[1:]:
        side = mask.shape[-1]
        # A border of the rectangle lies within half a pixel of where it is in the largest view.
        for axis in (0, 1):
            lengths = [m.any(dim=axis).double().mean() for m in (pasted[0], mask)]
            assert abs(lengths[0] - lengths[1]) <= 1 / side + 1e-9
    values = set(views[0][1].flatten().tolist())
    assert values <= {0.0, 1.0}


def test_both_kinds_are_drawn_when_both_are_asked_for() -> None:
    kinds = set()
    for seed in range(20):
        views, _ = mixed(seed, mixup=1.0, cutmix=1.0)
        kinds.add(bool((views[0] % 1 == 0).all()))
    assert kinds == {True, False}


def test_same_state_of_the_generator_gives_the_same_mixing() -> None:
    first, second = mixed(3, mixup=0.2, cutmix=1.0), mixed(3, mixup=0.2, cutmix=1.0)
    assert all(torch.equal(a, b) for a, b in zip(first[0], second[0], strict=True))
    assert torch.equal(first[1], second[1])
