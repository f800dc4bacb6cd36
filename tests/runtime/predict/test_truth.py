"""Facts about rsseg/runtime/predict/truth.py: which label file belongs to which image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pictures

from rsseg.runtime.predict.truth import TruthFiles, pixel_accuracy, read_truth
from rsseg.segmentation.labels import LabelReading


def write_labels(path: Path, values: list[list[int]], mode: str = "L") -> Path:
    picture = Pictures.fromarray(np.array(values, dtype=np.uint8))
    if mode == "P":
        picture.putpalette([7] * 768)
    (picture if mode == "P" else picture.convert(mode)).save(path)
    return path


FROM_ZERO = LabelReading(offset=0, void=(255,))
FROM_ONE = LabelReading(offset=1, void=(0,))


def read(path: Path, reading: LabelReading | None, size: tuple[int, int]) -> list[list[int]]:
    decoder = TruthFiles(path.parent, 3, reading).decoder([path])
    labels: list[list[int]] = read_truth(path, decoder, size).tolist()
    return labels


@pytest.mark.parametrize("mode", ["L", "P"])
def test_both_readings_of_labels_give_the_same_map(tmp_path: Path, mode: str) -> None:
    from_zero = write_labels(tmp_path / "zero.png", [[0, 1, 2], [2, 255, 0]], mode)
    from_one = write_labels(tmp_path / "one.png", [[1, 2, 3], [3, 0, 1]], mode)
    expected = [[0, 1, 2], [2, 255, 0]]
    assert read(from_zero, FROM_ZERO, (2, 3)) == expected
    assert read(from_one, FROM_ONE, (2, 3)) == expected


def test_values_that_are_no_class_are_named_with_the_remedy(tmp_path: Path) -> None:
    path = write_labels(tmp_path / "x.png", [[0, 3]])
    with pytest.raises(
        ValueError, match=r"x\.png: .* 3 beside classes 0\.\.2, void 255 .*--label-reading"
    ):
        read(path, FROM_ZERO, (1, 2))


def test_labels_of_another_size_are_refused(tmp_path: Path) -> None:
    path = write_labels(tmp_path / "x.png", [[0, 1]])
    with pytest.raises(ValueError, match=r"x\.png has the size 2x1, expected .* 1x2"):
        read(path, FROM_ZERO, (2, 1))


def test_without_a_reading_the_values_prove_it_or_the_options_are_listed(tmp_path: Path) -> None:
    proven = write_labels(tmp_path / "a.png", [[0, 1, 2, 255]])
    assert read(proven, None, (1, 4)) == [[0, 1, 2, 255]]
    doubtful = write_labels(tmp_path / "b.png", [[0, 1, 2, 3]])
    with pytest.raises(ValueError, match=r"--label-reading '\{offset: 1, void: \[0\]\}'"):
        read(doubtful, None, (1, 4))


def test_labels_are_found_by_a_pattern_and_in_capitals(tmp_path: Path) -> None:
    for name in ("x_mask.png", "Y_mask.PNG", "x.png"):
        write_labels(tmp_path / name, [[0]])
    files = TruthFiles(tmp_path / "*_mask.png", 3).find([Path("x.jpg"), Path("Y.jpg")])
    assert [path.name for path in files.values()] == ["x_mask.png", "Y_mask.PNG"]
    every = sorted(tmp_path.iterdir())
    photos = TruthFiles(tmp_path / "*_mask.png", 3).photos(every)
    assert photos == [tmp_path / "x.png"]
    assert TruthFiles(tmp_path, 3).photos(every) == every


def test_labels_are_found_by_the_names_of_the_images(tmp_path: Path) -> None:
    labels = write_labels(tmp_path / "x.png", [[0]])
    assert TruthFiles(tmp_path, 3).find([Path("a/x.jpg")]) == {Path("a/x.jpg"): labels}
    assert TruthFiles(labels, 3).find([Path("y.jpg")]) == {Path("y.jpg"): labels}
    with pytest.raises(ValueError, match=r"no label file for 1 of 2 images; .* expected .*y\.png"):
        TruthFiles(tmp_path, 3).find([Path("x.jpg"), Path("y.jpg")])
    with pytest.raises(ValueError, match="one label file for 2 images"):
        TruthFiles(labels, 3).find([Path("x.jpg"), Path("y.jpg")])
    with pytest.raises(ValueError, match="does not exist"):
        TruthFiles(tmp_path / "nowhere", 3).find([Path("x.jpg")])


def test_readings_that_do_not_fit_the_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="void 3 is also the value of a class"):
        TruthFiles(Path(), 3, LabelReading(offset=1, void=(3,)))


def test_pixel_accuracy_counts_valid_pixels_alone() -> None:
    labels = np.array([[0, 1, 2, 3]], dtype=np.uint8)
    assert pixel_accuracy(labels, np.array([[0, 1, 0, 255]], dtype=np.uint8)) == 2 / 3
    assert pixel_accuracy(labels, np.full((1, 4), 255, dtype=np.uint8)) is None
