"""Which options let a network of timm take images of several sizes."""

from __future__ import annotations

import pytest

from rsseg.classifiers.sizes import size_error, size_options

SMALL_VIT = {"embed_dim": 24, "depth": 1, "num_heads": 2}


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("test_resnet", {}, {}),
        ("convnext_atto", {"depths": (1, 1, 1, 1), "dims": (8, 8, 8, 8)}, {}),
        ("vit_tiny_patch16_224", SMALL_VIT, {"dynamic_img_size": True}),
    ],
)
def test_first_options_that_work_are_returned(
    name: str, options: dict[str, object], expected: dict[str, object]
) -> None:
    assert size_options(name, [64, 32], options) == expected
    assert size_error(name, [64, 32], {**options, **expected}) is None


def test_size_that_does_not_work_is_named() -> None:
    error = size_error("vit_tiny_patch16_224", [224, 64], SMALL_VIT)
    assert error is not None
    assert error.startswith("does not take 64 pixels: ")


def test_unknown_options_are_an_error_and_no_exception() -> None:
    error = size_error("test_resnet", [64], {"img_size": 64})
    assert error is not None
    assert error.startswith("cannot be built with {'img_size': 64}: ")
