"""The contact sheet: images, overlays and a legend, for samples of any shape."""

from __future__ import annotations

import numpy as np

from datasets.contact_sheet import contact_sheet
from datasets.samples import Sample
from rsseg.segmentation.palette import overlay, palette


def test_contact_sheet_shows_image_overlay_and_legend() -> None:
    image = np.full((30, 40, 3), (10, 200, 90), dtype=np.uint8)
    labels = np.full((30, 40), 2, dtype=np.uint8)
    sheet = contact_sheet([("train a", Sample(image, labels, "a"))], ["x", "y", "z"])
    assert (sheet[60, 100] == image[0, 0]).all()
    assert (sheet[60, 500] == overlay(image, labels, 3)[0, 0]).all()
    for colour in palette(3):
        assert (sheet[330:] == colour).all(axis=-1).sum() > 400


def test_contact_sheet_of_odd_shapes_and_void_alone_is_drawn() -> None:
    samples = [
        ("tall", Sample(np.zeros((90, 7, 3), np.uint8), np.full((90, 7), 255, np.uint8), "t")),
        ("one", Sample(np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.uint8), "o")),
        ("wide", Sample(np.zeros((5, 900, 3), np.uint8), np.zeros((5, 900), np.uint8), "w")),
    ]
    assert contact_sheet(samples, ["a class with a very long name"]).shape[1] == 1600


def test_contact_sheet_has_the_colours_that_are_given() -> None:
    sample = Sample(np.zeros((30, 40, 3), np.uint8), np.ones((30, 40), np.uint8), "a")
    colours = [(200, 10, 20), (1, 250, 3)]
    sheet = contact_sheet([("a", sample)], ["x", "y"], colours)
    for colour in colours:
        assert (sheet[330:] == colour).all(axis=-1).sum() > 400
    expected = overlay(sample.image, sample.labels, np.array(colours, np.uint8))
    assert (sheet[60, 500] == expected[0, 0]).all()
