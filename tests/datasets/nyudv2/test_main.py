"""The tools of NYUDv2: preparing, sampling, checking, and the command line."""

from __future__ import annotations

import errno
import json
import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image as Pictures

from datasets.label_report import describe
from datasets.nyudv2 import __main__ as nyudv2_tools
from datasets.nyudv2.__main__ import main
from datasets.nyudv2.check import check
from datasets.nyudv2.prepare import prepare
from datasets.nyudv2.reader import Split, open_nyudv2
from datasets.nyudv2.sample import write_samples

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
    prepare(mat, first, packed=False)
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
    with pytest.raises(FileExistsError, match="exists and is not a complete prepared folder"):
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
    with pytest.raises(FileExistsError, match=r"not a complete .*labels/000002\.png"):
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
    assert len(reports["train"].faults) == 5
    for words in ("000001.jpg (or", "000002.png: unreadable", "values 77", "12x8 pixels and"):
        assert words in faults
    assert "train.packed: stale" in faults
    assert "000003 is in train and in test" in reports["test"].faults[-1]
    assert main(["check", str(root)]) == 1
    assert "train: 5 faults" in capsys.readouterr().out
    assert "  ... and 4 more" in list(describe(reports, limit=1))


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


def test_contact_sheet_is_never_written_over_and_refused_before_the_scan(
    mat: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = mat.with_name("sheet.png")
    sheet.write_text("mine", encoding="utf-8")
    monkeypatch.setattr(nyudv2_tools, "check", None)  # calling it would be an error of its own
    assert main(["check", str(mat), "--sheet", str(sheet)]) == 1
    assert "sheet.png exists; choose another name" in capsys.readouterr().err
    assert sheet.read_text(encoding="utf-8") == "mine"


def test_samples_are_those_of_the_test_split(mat: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = mat.parent / "deep" / "few"
    for _ in range(2):  # the second time everything is there
        assert main(["sample", str(mat), str(target), "--count", "1"]) == 0
        assert "few holds images and labels of 000004" in capsys.readouterr().out
    sample = open_nyudv2(mat, "test")[0]
    for folder, expected in (("images", sample.image), ("labels", sample.labels)):
        (path,) = (target / folder).iterdir()
        with Pictures.open(path) as picture:
            np.testing.assert_array_equal(np.asarray(picture), expected)
    assert main(["sample", str(mat), str(target), "--count", "2"]) == 1
    assert "count must be in 1..1" in capsys.readouterr().err


def test_samples_are_spread_and_added_to_what_is_there(mat: Path) -> None:
    reader, target = open_nyudv2(mat, "train"), mat.parent / "few"
    assert write_samples(reader, target, 2) == ["000001", "000005"]
    kept = (target / "images" / "000001.png").stat().st_mtime_ns
    assert write_samples(reader, target, 4) == list(reader.names)
    assert (target / "images" / "000001.png").stat().st_mtime_ns == kept


@pytest.mark.parametrize("folder", ["images", "labels"])
def test_sample_of_another_data_set_is_refused_and_kept(mat: Path, folder: str) -> None:
    reader, target = open_nyudv2(mat, "train"), mat.parent / "few"
    stale = target / folder / "000005.png"
    stale.parent.mkdir(parents=True)
    for content in (b"no picture", None):
        if content:
            stale.write_bytes(content)
        else:
            Pictures.new("L", (12, 8), 3).save(stale)
        before = stale.read_bytes()
        with pytest.raises(FileExistsError, match=r"000005\.png: exists and is not .*frame 5; rem"):
            write_samples(reader, target, 4)
        assert [path for path in target.rglob("*") if path.is_file()] == [stale]
        assert stale.read_bytes() == before


def test_folder_with_other_pictures_takes_no_samples(mat: Path) -> None:
    target = mat.parent / "few"
    (target / "images").mkdir(parents=True)
    (target / "images" / "000009.png").touch()
    with pytest.raises(FileExistsError, match=r"000009\.png: is none of the samples .*\(000001"):
        write_samples(open_nyudv2(mat, "train"), target, 2)


def test_full_disk_names_the_file(mat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    for writer, name in (("write_text", r"train\.txt"), ("write_bytes", r"000001\.png")):
        with monkeypatch.context() as patch:
            patch.setattr(Path, writer, lambda *given, **_: full())
            with pytest.raises(OSError, match=rf"cannot write .*{name}: No space left on device"):
                prepare(mat, mat.parent / "prepared")
    assert [path.name for path in mat.parent.iterdir()] == ["rooms.mat"]
