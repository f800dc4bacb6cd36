"""Preprocessing: sizes of the views, resizing against Pillow, normalisation written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from pydantic import ValidationError

from rsseg.images.preprocessing import Image, Preprocessing, resize_image, resize_labels

SIDES = st.integers(1, 700)


def noise(height: int, width: int) -> Image:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(16, 16), (24, 40), (64, 80), (7, 5)])
def test_resized_image_agrees_with_pillow_within_one_grey_level(size: tuple[int, int]) -> None:
    image = noise(48, 64)
    expected = PillowImage.fromarray(image).resize(size[::-1], PillowImage.Resampling.BILINEAR)
    resized = resize_image(torch.from_numpy(image).permute(2, 0, 1), size)
    assert resized.shape == (3, *size)
    assert resized.dtype == torch.uint8
    difference = resized.permute(1, 2, 0).numpy().astype(int) - np.asarray(expected).astype(int)
    assert abs(difference).max() <= 1


def test_resized_float_image_stays_float() -> None:
    resized = resize_image(torch.full((3, 8, 8), 0.25), (5, 3))
    torch.testing.assert_close(resized, torch.full((3, 5, 3), 0.25))


@pytest.mark.parametrize("size", [(4, 4), (5, 7), (12, 20), (8, 10)])
def test_each_resized_label_is_the_one_under_the_centre_of_its_pixel(size: tuple[int, int]) -> None:
    labels = np.random.default_rng(0).integers(0, 256, (8, 10), dtype=np.uint8)
    rows = np.floor((np.arange(size[0]) + 0.5) * 8 / size[0]).astype(int)
    columns = np.floor((np.arange(size[1]) + 0.5) * 10 / size[1]).astype(int)
    resized = resize_labels(torch.from_numpy(labels), size)
    assert resized.dtype == torch.uint8
    np.testing.assert_array_equal(resized.numpy(), labels[np.ix_(rows, columns)])


def test_void_stays_void_and_no_class_is_invented_by_resizing() -> None:
    labels = torch.tensor([[0, 255], [39, 255]], dtype=torch.uint8)
    assert set(resize_labels(labels, (9, 9)).flatten().tolist()) == {0, 39, 255}


def test_resizing_to_the_same_size_changes_nothing() -> None:
    image, labels = torch.zeros(3, 4, 5, dtype=torch.uint8), torch.zeros(4, 5, dtype=torch.uint8)
    assert resize_image(image, (4, 5)) is image
    assert resize_labels(labels, (4, 5)) is labels


@given(resolution=SIDES, height=SIDES, width=SIDES)
def test_square_views_have_the_resolution_on_both_sides(
    resolution: int, height: int, width: int
) -> None:
    assert Preprocessing().size(resolution, height, width) == (resolution, resolution)


@given(resolution=SIDES, height=SIDES, width=SIDES)
def test_aspect_views_keep_the_ratio_within_half_a_pixel(
    resolution: int, height: int, width: int
) -> None:
    rows, columns = Preprocessing(fit="aspect").size(resolution, height, width)
    assert min(rows, columns) == resolution
    longer = max(height, width) * resolution / min(height, width)
    assert abs(max(rows, columns) - longer) <= 0.5 + 1e-9 * longer
    assert (height >= width) <= (rows >= columns)


def test_view_of_a_480_by_640_image_is_known() -> None:
    assert Preprocessing(fit="aspect").view(noise(480, 640), 96).shape == (3, 96, 128)
    assert Preprocessing(fit="aspect").view(noise(640, 480), 96).shape == (3, 128, 96)
    assert Preprocessing().view(noise(480, 640), 96).shape == (3, 96, 96)


def test_view_keeps_the_order_of_the_channels() -> None:
    image = np.zeros((6, 6, 3), dtype=np.uint8)
    image[..., 0], image[..., 2] = 200, 10
    view = Preprocessing().view(image, 4)
    assert [set(channel.flatten().tolist()) for channel in view] == [{200}, {0}, {10}]


def test_view_reads_mirrored_images() -> None:
    image = noise(8, 8)
    mirrored = Preprocessing().view(image[:, ::-1], 8)
    torch.testing.assert_close(mirrored, torch.from_numpy(image).permute(2, 0, 1).flip(-1))


def test_view_reads_a_read_only_image_and_does_not_alias_it() -> None:
    image = noise(8, 8)
    before = image.copy()
    image.flags.writeable = False
    Preprocessing().view(image, 8).zero_()
    np.testing.assert_array_equal(image, before)


@settings(deadline=None)
@given(value=st.integers(0, 255))
def test_normalised_values_are_those_of_the_formula(value: int) -> None:
    views = torch.full((2, 3, 2, 2), value, dtype=torch.uint8)
    prepared = Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0)).normalise(views)
    assert prepared.dtype == torch.float32
    expected = [(value / 255 - m) / s for m, s in [(0.1, 0.5), (0.2, 0.25), (0.3, 2.0)]]
    assert prepared[1, :, 0, 1].tolist() == pytest.approx(expected, abs=1e-5)


def test_one_view_is_normalised_like_a_batch_of_one() -> None:
    view = Preprocessing().view(noise(8, 8), 6)
    prepared = Preprocessing()
    torch.testing.assert_close(prepared.normalise(view), prepared.normalise(view[None])[0])


def test_padding_in_the_mean_colour_is_normalised_to_almost_zero() -> None:
    preprocessing = Preprocessing()
    assert preprocessing.mean_colour == (124, 116, 104)
    colour = torch.tensor(preprocessing.mean_colour, dtype=torch.uint8).view(3, 1, 1)
    assert preprocessing.normalise(colour).abs().max() < 0.01


@pytest.mark.parametrize("std", [(0.0, 1.0, 1.0), (1.0, -0.5, 1.0)])
def test_std_that_is_not_above_zero_is_refused(std: tuple[float, float, float]) -> None:
    with pytest.raises(ValidationError, match="std must be above 0 in each channel"):
        Preprocessing(std=std)


def test_unknown_fit_and_unknown_setting_are_refused_by_name() -> None:
    with pytest.raises(ValidationError, match="'square', 'aspect' or 'crop'"):
        Preprocessing(fit="stretch")  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="stdd"):
        Preprocessing(stdd=(1, 1, 1))  # type: ignore[call-arg]


def test_translated_inputs_are_those_of_the_other_preprocessing() -> None:
    views = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8)
    ours = Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    theirs = Preprocessing(mean=(0, 0, 0), std=(1, 1, 1))
    translated = ours.translated(ours.normalise(views), theirs)
    torch.testing.assert_close(translated, views / 255, rtol=0, atol=1e-6)
