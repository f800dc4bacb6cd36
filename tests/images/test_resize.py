"""Facts about rsseg/images/resize.py: PyTorch's values, without PyTorch."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from rsseg.images.preprocessing import Preprocessing
from rsseg.images.resize import resize_pixels

SIDES = st.integers(1, 200)
# Where PyTorch has no fixed point for uint8 it rounds floats, which may differ by a grey level.
FIXED_POINT = "AVX2" in torch.backends.cpu.get_cpu_capability() or (
    "AVX512" in torch.backends.cpu.get_cpu_capability()
)
TOLERANCE = 0 if FIXED_POINT else 1


def drawn(height: int, width: int, kind: int = 0) -> np.ndarray:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return image if kind == 0 else (image // 128 * 255).astype(np.uint8)


def torch_resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None]
    resized = F.interpolate(tensor, size=size, mode="bilinear", antialias=True)[0]
    return np.asarray(resized.permute(1, 2, 0).numpy())


def difference(ours: np.ndarray, theirs: np.ndarray) -> int:
    assert ours.shape == theirs.shape
    return int(np.abs(ours.astype(int) - theirs).max())


@settings(max_examples=80, deadline=None)
@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from([0, 1]))
def test_values_are_those_of_pytorch(
    height: int, width: int, new_height: int, new_width: int, kind: int
) -> None:
    image, size = drawn(height, width, kind), (new_height, new_width)
    assert difference(resize_pixels(image, size), torch_resized(image, size)) <= TOLERANCE


@pytest.mark.parametrize("size", [(2000, 40), (40, 3000), (1100, 1300)])
def test_values_of_large_images_are_those_of_pytorch(size: tuple[int, int]) -> None:
    for side in (32, 96):
        ours, theirs = (
            resize_pixels(drawn(*size), (side, side)),
            torch_resized(drawn(*size), (side, side)),
        )
        assert difference(ours, theirs) <= TOLERANCE


def test_image_of_the_same_size_is_copied() -> None:
    image = drawn(9, 7)
    same = resize_pixels(image, (9, 7))
    np.testing.assert_array_equal(same, image)
    assert not np.shares_memory(same, image)


@pytest.mark.parametrize("fit", ["square", "aspect", "crop"])
@pytest.mark.parametrize("extent", [None, (166.5, 250.5)])
def test_views_of_arrays_are_those_of_tensors(
    monkeypatch: pytest.MonkeyPatch, fit: str, extent: tuple[float, float] | None
) -> None:
    preprocessing, image = Preprocessing(fit=fit), drawn(167, 251)  # type: ignore[arg-type]
    views = {side: preprocessing.view(image, side, extent) for side in (32, 48, 64)}
    inputs = {side: preprocessing.normalise(view).numpy() for side, view in views.items()}
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "torch", None)  # As in a process that has not loaded it.
        ours = {side: preprocessing.pixels(image, side, extent) for side in views}
        normalised = {side: preprocessing.normalise_pixels(view) for side, view in ours.items()}
    for side, view in views.items():
        assert difference(ours[side], view.numpy()) <= TOLERANCE
        np.testing.assert_array_equal(preprocessing.pixels(image, side, extent), view.numpy())
        np.testing.assert_allclose(normalised[side], inputs[side], atol=TOLERANCE / 25, rtol=0)
