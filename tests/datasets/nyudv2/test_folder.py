"""Folders of images and label PNGs: conventions, odd pictures, and all that is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pictures

import datasets.nyudv2.reader
from datasets.nyudv2.reader import CROPS, FolderReader, Split, open_nyudv2
from rsseg.segmentation.labels import LabelReading, complete_reading
from tests.helpers.small_folder import every_value, write_folder

CLASSES = json.loads(
    Path(datasets.nyudv2.reader.__file__).with_name("tables.json").read_text(encoding="utf-8")
)["classes"]


@pytest.mark.parametrize("crop", CROPS)
def test_crops_cut_the_rows_and_columns_of_their_name(tmp_path: Path, crop: str) -> None:
    rows, columns = np.mgrid[:480, :640]
    values = ((rows * 7 + columns) % 41).astype(np.uint8)
    root = write_folder(tmp_path / "d", values[None])
    whole, cut = open_nyudv2(root, "train")[0], open_nyudv2(root, "train", crop=crop)[0]
    top, bottom, left, right = {
        "gupta": (45, 470, 40, 600),
        "toolbox": (44, 471, 40, 601),
        "border": (6, 474, 7, 632),
    }[crop]
    np.testing.assert_array_equal(cut.image, whole.image[top:bottom, left:right])
    np.testing.assert_array_equal(cut.labels, whole.labels[top:bottom, left:right])
    assert cut.image.flags.c_contiguous


def test_crops_refuse_other_names_and_sizes(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "d", every_value(0, 40))
    with pytest.raises(ValueError, match="unknown crop 'eigen'; the crops are gupta, toolbox"):
        open_nyudv2(root, "train", crop="eigen")
    with pytest.raises(ValueError, match=r"a\.png: the crop 'border' is .* 640x480 .* 11x5"):
        open_nyudv2(root, "train", crop="border")


@pytest.mark.parametrize(("offset", "void"), [(1, 0), (0, 255)])
def test_both_label_conventions_are_detected(tmp_path: Path, offset: int, void: int) -> None:
    expected = np.resize([255, *range(40)], (1, 6, 7)).astype(np.uint8)
    values = np.where(expected == 255, void, expected + offset).astype(np.uint8)
    reader = open_nyudv2(write_folder(tmp_path / "d", values), "train")
    assert isinstance(reader, FolderReader)
    assert reader.reading == LabelReading(offset=offset, void=(void,))
    np.testing.assert_array_equal(reader[0].labels, expected[0])
    assert reader.classes == tuple(CLASSES)


def test_told_convention_is_obeyed_and_completed(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "d", every_value(0, 7, 39))
    assert np.unique(open_nyudv2(root, "train", label_offset=0)[0].labels).tolist() == [0, 7, 39]
    for told in ({"label_offset": 1}, {"void_value": 0}, {"label_offset": 1, "void_value": 0}):
        labels = open_nyudv2(root, "train", **told)[0].labels  # type: ignore[arg-type]
        assert np.unique(labels).tolist() == [6, 38, 255]
    with pytest.raises(ValueError, match="void 3 is also the value of a class"):
        open_nyudv2(root, "train", label_offset=1, void_value=3)
    for unfit in ({"label_offset": 65530}, {"void_value": -1}, {"label_offset": -1}):
        with pytest.raises(ValueError, match=r"leaves no values|greater than or equal to 0"):
            open_nyudv2(root, "train", **unfit)  # type: ignore[arg-type]


def test_recorded_convention_is_read_and_told_one_wins(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "d", every_value(0, 7, 39))
    (root / "dataset.json").write_text('{"label_offset": 0, "void_value": 255}', encoding="utf-8")
    assert open_nyudv2(root, "train")[0].labels.max() == 39
    assert open_nyudv2(root, "train", label_offset=1)[0].labels.max() == 255
    for broken, message in (("{", "not a JSON"), ('{"void_value": "0"}', "whole numbers")):
        (root / "dataset.json").write_text(broken, encoding="utf-8")
        with pytest.raises(ValueError, match=rf"dataset\.json: .*{message}"):
            open_nyudv2(root, "train")


def test_value_outside_the_classes_is_refused_on_reading(tmp_path: Path) -> None:
    values = np.concatenate([every_value(0, 1, 2, 255), every_value(0, 40, 255)])
    reader = open_nyudv2(write_folder(tmp_path / "d", values), "train", label_offset=0)
    assert reader[0].labels.max() == 255
    with pytest.raises(
        ValueError, match=r"b\.png: holds the values 40 beside classes 0..39, void 255 .*data.lab"
    ):
        reader[1]


def test_other_numbers_of_classes_are_possible(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "d", every_value(0, 1, 13))
    with pytest.raises(ValueError, match=r"does not prove .* 13 classes"):
        open_nyudv2(root, "train", classes=13)
    (root / "dataset.json").write_text('{"label_offset": 1}', encoding="utf-8")
    assert open_nyudv2(root, "train", classes=13).classes[12] == "class 12"
    assert np.unique(open_nyudv2(root, "train", classes=13)[0].labels).tolist() == [0, 12, 255]
    (root / "classes.txt").write_text("floor\nroof\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"classes\.txt: names 2 classes, expected 13"):
        open_nyudv2(root, "train", classes=13)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".png"])
def test_images_of_any_colour_mode_become_rgb(tmp_path: Path, suffix: str) -> None:
    root = write_folder(tmp_path / "d", every_value(0, 40))
    (root / "images" / "a.png").unlink()
    modes = {".png": ["L", "LA", "RGBA", "P", "1", "RGB"]}.get(suffix, ["L", "CMYK", "RGB"])
    path = root / "images" / f"a{suffix}"
    for mode in modes:
        Pictures.new("RGB", (11, 5), (255, 255, 255)).convert(mode).save(path)
        image = open_nyudv2(root, "train")[0].image
        assert image.shape == (5, 11, 3)
        assert image.dtype == np.uint8
        assert image.min() > 250


def test_channels_are_red_green_blue_and_palettes_may_be_transparent(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "d", every_value(0, 40))
    colours = Pictures.new("RGB", (11, 5), (200, 100, 50)).quantize(4)
    colours.save(root / "images" / "a.png", transparency=bytes([255, 0]))
    assert (open_nyudv2(root, "train")[0].image == (200, 100, 50)).all()


def test_image_is_turned_as_its_exif_data_say(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "d", every_value(0, 40))
    path = root / "images" / "a.png"
    upright = np.asarray(Pictures.open(path))
    exif = Pictures.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    Pictures.fromarray(np.rot90(upright).copy()).save(path, exif=exif)
    np.testing.assert_array_equal(open_nyudv2(root, "train")[0].image, upright)


def test_missing_files_are_counted_and_the_first_five_named(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "d", np.repeat(every_value(0, 40), 7, axis=0))
    shutil.rmtree(root / "labels")
    (root / "images" / "g.png").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        open_nyudv2(root, "train")
    message = str(caught.value)
    assert "8 missing files of train.txt: labels40/a.png" in message
    assert "labels40/e.png ..." in message
    assert "f.png" not in message


def test_partial_reader_leaves_out_what_is_missing(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "d", np.repeat(every_value(0, 40), 3, axis=0))
    (root / "images" / "b.png").unlink()
    reader = open_nyudv2(root, "train", partial=True)
    assert isinstance(reader, FolderReader)
    assert reader.names == ("a", "c")
    assert reader.missing == ("images/b.jpg (or .png, .jpeg)",)


def test_lists_may_come_from_any_editor_and_must_be_sound(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "d", np.repeat(every_value(0, 40), 2, axis=0))
    (root / "train.txt").write_bytes("\ufeffb\r\n\r\n a \r\n".encode())
    assert open_nyudv2(root, "train").names == ("b", "a")
    for content, message in (("", "empty"), ("a\nb\na\n", "names a twice")):
        (root / "train.txt").write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=rf"train\.txt: {message}"):
            open_nyudv2(root, "train")
    (root / "train.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"train\.txt: missing"):
        open_nyudv2(root, "train")


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "d", every_value(0, 40))
    Pictures.new("RGB", (11, 5)).save(root / "images" / "a.jpg")
    with pytest.raises(ValueError, match=r"both a\.jpg and a\.png exist"):
        open_nyudv2(root, "train")


def test_sizes_of_image_and_labels_must_agree(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "d", every_value(0, 40))
    Pictures.new("RGB", (5, 11)).save(root / "images" / "a.png")
    with pytest.raises(ValueError, match=r"images/a\.png has 5x11 pixels and .*a\.png 11x5"):
        open_nyudv2(root, "train")[0]


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def replace_by_text(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1", encoding="utf-8")


@pytest.mark.parametrize("damage", [cut_short, replace_by_text])
@pytest.mark.parametrize("part", ["images", "labels"])
def test_damaged_files_are_named(tmp_path: Path, part: str, damage: Callable[[Path], None]) -> None:
    root = write_folder(tmp_path / "d", every_value(0, 40))
    damage(root / part / "a.png")
    with pytest.raises(ValueError, match=rf"{part}/a\.png: unreadable .*replace it"):
        open_nyudv2(root, "train", label_offset=1)[0]


def test_truncated_jpeg_is_refused_and_not_filled_with_grey(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "d", every_value(0, 40))
    (root / "images" / "a.png").unlink()
    noise = np.random.default_rng(0).integers(0, 256, (50, 110, 3), dtype=np.uint8)
    Pictures.fromarray(noise).save(root / "images" / "a.jpg")
    cut_short(root / "images" / "a.jpg")
    with pytest.raises(ValueError, match=r"a\.jpg: unreadable image"):
        open_nyudv2(root, "train")[0]


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(("told", "offset"), [(40, 1), (255, 0)])
def test_both_splits_have_the_convention_that_either_tells(
    tmp_path: Path, split: Split, told: int, offset: int
) -> None:
    values = np.concatenate([every_value(1, 7), every_value(1, told)])
    lists = {"train": ["b"], "test": ["a"]}
    reader = open_nyudv2(write_folder(tmp_path / "d", values, **lists), split)
    assert isinstance(reader, FolderReader)
    assert reader.reading == complete_reading(offset, None)


def test_splits_of_two_conventions_are_refused(tmp_path: Path) -> None:
    values = np.concatenate([every_value(1, 40), every_value(1, 255)])
    root = write_folder(tmp_path / "d", values, train=["a"], test=["b"])
    with pytest.raises(ValueError, match=r"a\.png holds 40, .*b\.png holds 255"):
        open_nyudv2(root, "train")


def test_one_list_is_enough(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "d", every_value(1, 40))
    (root / "test.txt").unlink()
    assert len(open_nyudv2(root, "train")) == 1
