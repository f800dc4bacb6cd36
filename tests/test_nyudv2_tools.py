"""The tools of NYUDv2: preparing, checking, the contact sheet, and the command line."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image as Pictures

from datasets.contact_sheet import contact_sheet
from datasets.nyudv2 import Sample, Split, open_nyudv2
from datasets.nyudv2_check import check, describe
from datasets.nyudv2_prepare import prepare
from datasets.nyudv2_tools import main
from rsseg.segmentation.palette import overlay, palette

SPLITS: tuple[Split, Split] = ("train", "test")


@pytest.fixture
def mat(tmp_path: Path) -> Path:
    """A file in the official layout with five frames of 12x8 pixels, four of them for training."""
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "rooms.mat", "w") as file:
        file["images"] = rng.integers(0, 256, (5, 3, 12, 8), dtype=np.uint8)
        file["labels"] = rng.integers(0, 895, (5, 12, 8), dtype=np.uint16)
        file["rsseg_train"], file["rsseg_test"] = [1, 2, 3, 5], [4]
    return tmp_path / "rooms.mat"


def assert_equal_samples(first: Path, second: Path) -> None:
    for split in SPLITS:
        pairs = zip(open_nyudv2(first, split), open_nyudv2(second, split), strict=True)
        for one, other in pairs:
            assert one.name == other.name
            np.testing.assert_array_equal(one.image, other.image)
            np.testing.assert_array_equal(one.labels, other.labels)


def test_prepared_folder_gives_the_samples_of_the_mat_file(mat: Path) -> None:
    target = mat.parent / "deep" / "prepared"
    assert prepare(mat, target)
    assert_equal_samples(mat, target)
    assert open_nyudv2(target, "test").classes == open_nyudv2(mat, "test").classes
    labels = np.asarray(Pictures.open(target / "labels" / "000004.png"))
    np.testing.assert_array_equal(labels, open_nyudv2(mat, "test")[0].labels)
    assert sorted(path.name for path in target.parent.iterdir()) == ["prepared"]


def test_preparing_a_folder_copies_its_images_and_unifies_its_labels(mat: Path) -> None:
    first, second = mat.parent / "first", mat.parent / "second"
    prepare(mat, first)
    for path in (first / "labels").iterdir():  # to the other convention
        Pictures.fromarray(np.asarray(Pictures.open(path)) + np.uint8(1)).save(path)
    (first / "dataset.json").unlink()
    (first / "images" / "000001.png").unlink()
    Pictures.new("CMYK", (12, 8), (9, 80, 200, 3)).save(first / "images" / "000001.jpg")
    prepare(first, second, label_offset=1)
    copied = (second / "images" / "000001.jpg").read_bytes()
    assert copied == (first / "images" / "000001.jpg").read_bytes()
    facts = json.loads((second / "dataset.json").read_text(encoding="utf-8"))
    assert (facts["label_offset"], facts["void_value"]) == (0, 255)
    (first / "dataset.json").write_text('{"label_offset": 1}', encoding="utf-8")
    assert_equal_samples(first, second)


def test_second_preparation_does_nothing(mat: Path) -> None:
    target = mat.parent / "prepared"
    target.mkdir()  # an empty folder is no obstacle
    assert prepare(mat, target)
    written = (target / "dataset.json").stat().st_mtime_ns
    assert not prepare(mat, target)
    assert (target / "dataset.json").stat().st_mtime_ns == written


def test_target_that_is_something_else_is_refused_and_kept(mat: Path) -> None:
    target = mat.parent / "prepared"
    target.mkdir()
    (target / "thesis.txt").write_text("all of it", encoding="utf-8")
    with pytest.raises(FileExistsError, match="exists and is no complete prepared folder"):
        prepare(mat, target)
    assert (target / "thesis.txt").read_text(encoding="utf-8") == "all of it"


def test_target_of_another_source_or_without_a_file_is_refused(mat: Path) -> None:
    target = mat.parent / "prepared"
    prepare(mat, target)
    other = mat.with_name("other.mat")
    shutil.copyfile(mat, other)
    with pytest.raises(FileExistsError, match=r"prepared from another source.*rooms.*other"):
        prepare(other, target)
    (target / "labels" / "000002.png").unlink()
    with pytest.raises(FileExistsError, match=r"no complete .*labels/000002\.png"):
        prepare(mat, target)


def test_failed_preparation_leaves_nothing(mat: Path) -> None:
    with h5py.File(mat, "a") as file:
        file["labels"][4, 0, 0] = 900
    with pytest.raises(ValueError, match="frame 5: holds the labels"):
        prepare(mat, mat.parent / "prepared")
    assert [path.name for path in mat.parent.iterdir()] == ["rooms.mat"]


def test_check_counts_what_is_there(mat: Path) -> None:
    reports = check(mat)
    train = np.concatenate([sample.labels.ravel() for sample in open_nyudv2(mat, "train")])
    assert reports["train"].sizes == {(12, 8): 4}
    for label in (*range(40), 255):
        share = 100 * np.mean(train == label)
        assert reports["train"].shares[label] == pytest.approx(share)
    text = "\n".join(describe(reports))
    assert "train: 4 samples; sizes 12x8 (4)" in text
    assert re.search(rf"255 void +{100 * np.mean(train == 255):.2f}", text)
    assert re.search(rf"39 otherprop +{100 * np.mean(train == 39):.2f}", text)
    assert text.endswith("no faults")


def test_check_finds_every_fault(mat: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = mat.parent / "prepared"
    prepare(mat, root)
    (root / "images" / "000001.png").unlink()
    (root / "images" / "000002.png").write_bytes(b"no picture")
    Pictures.new("L", (12, 8), 77).save(root / "labels" / "000003.png")
    Pictures.new("L", (8, 12), 7).save(root / "labels" / "000005.png")
    (root / "test.txt").write_text("000003\n000004\n", encoding="utf-8")
    reports = check(root)
    faults = "\n".join(reports["train"].faults)
    assert len(reports["train"].faults) == 4
    for words in ("000001.jpg (or", "000002.png: unreadable", "values 77", "12x8 pixels and"):
        assert words in faults
    assert "000003 is in train and in test" in reports["test"].faults[-1]
    assert main(["check", str(root)]) == 1
    assert "train: 4 faults" in capsys.readouterr().out
    assert "  ... and 3 more" in list(describe(reports, limit=1))


def test_check_reports_what_cannot_be_opened(tmp_path: Path) -> None:
    assert main(["check", str(tmp_path)]) == 1
    reports = check(tmp_path / "nowhere")
    assert "no such file or folder" in reports["train"].faults[0]


def test_command_line_runs_from_source_to_sheet(
    mat: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, sheet = mat.parent / "prepared", mat.parent / "pictures" / "sheet.png"
    for words in ("is written", "is complete already"):
        assert main(["prepare", str(mat), str(target)]) == 0
        assert words in capsys.readouterr().out
    assert main(["check", str(target), "--sheet", str(sheet)]) == 0
    with Pictures.open(sheet) as picture:
        assert picture.width == 1600
    assert main(["prepare", str(mat), str(mat.parent)]) == 1
    assert "error: " in capsys.readouterr().err
    (mat.parent / "a.mat").touch()
    assert main(["download", str(mat.parent / "a.mat")]) == 1
    assert "has 0 bytes, expected 2972037809" in capsys.readouterr().err


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
