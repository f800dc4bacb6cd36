"""A file looks the same to training, which reads it in a data set, and to prediction."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image as Pictures

from datasets.nyudv2.reader import open_nyudv2
from rsseg.images.reading import read_image
from rsseg.runtime.predict.truth import TruthFiles, read_truth
from rsseg.segmentation.labels import complete_reading
from tests.helpers.small_folder import every_value, write_folder


def test_images_are_those_that_prediction_reads(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "d", every_value(0, 40))
    path = root / "images" / "a.png"
    clear = Pictures.new("RGBA", (11, 5), (200, 100, 50, 51))  # a fifth of it covers white
    for picture, colour in (
        (Pictures.new("I;16", (11, 5), 60000), (233, 233, 233)),
        (clear, (244, 224, 214)),
    ):
        picture.save(path)
        image = open_nyudv2(root, "train")[0].image
        assert (image == colour).all()
        np.testing.assert_array_equal(image, read_image(path))


def test_labels_are_those_that_prediction_reads(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "d", every_value(0, 1, 40))
    path = root / "labels" / "a.png"
    truth = TruthFiles(root / "labels", 40, complete_reading(1, None))
    reader = open_nyudv2(root, "train")
    read = read_truth(path, truth.decoder([path]), (5, 11))
    np.testing.assert_array_equal(reader[0].labels, read)
