"""Prepared folders: their packed files, and what becomes of a folder whose source has changed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pictures

from datasets.nyudv2 import folder as nyudv2_folder
from datasets.nyudv2 import prepare as nyudv2_prepare
from datasets.nyudv2.__main__ import main
from datasets.nyudv2.check import check
from datasets.nyudv2.prepare import prepare
from datasets.nyudv2.reader import Sample, open_nyudv2
from tests.helpers.small_folder import every_value, write_folder

Change = Callable[[Path], None]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three pictures of 11x5 pixels, two of them for training."""
    values = np.repeat(every_value(0, 7, 40), 3, axis=0)
    values[1, 0, 0], values[2, 2, 2] = 3, 9
    return write_folder(tmp_path / "source", values, train=["a", "b"], test=["c"])


@pytest.fixture
def target(source: Path) -> Path:
    """The prepared folder of `source`."""
    assert prepare(source, source.with_name("target"))
    return source.with_name("target")


def samples(root: Path, *, packed: bool = True) -> list[Sample]:
    return [*open_nyudv2(root, "train", packed=packed), *open_nyudv2(root, "test", packed=packed)]


def assert_equal(first: list[Sample], second: list[Sample]) -> None:
    assert [sample.name for sample in first] == [sample.name for sample in second]
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.image, other.image, strict=True)
        np.testing.assert_array_equal(one.labels, other.labels, strict=True)


def paint(path: Path, value: int) -> None:
    """Write another label map of the same size."""
    Pictures.new("L", (11, 5), value).save(path)


def test_packed_samples_are_those_of_the_images_and_need_no_decoding(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = samples(source)
    assert_equal(samples(target, packed=False), expected)
    monkeypatch.setattr(nyudv2_folder, "read_pair", None)  # calling it would be an error
    assert_equal(samples(target), expected)
    assert all(s.image.flags.writeable and s.labels.flags.writeable for s in samples(target))


def test_crops_are_cut_out_of_packed_samples(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:480, :640]
    values = ((rows * 7 + columns) % 41).astype(np.uint8)
    source, target = write_folder(tmp_path / "source", values[None]), tmp_path / "target"
    prepare(source, target)
    for crop in ("gupta", "border"):
        assert_equal(
            [*open_nyudv2(target, "test", crop=crop)], [*open_nyudv2(source, "test", crop=crop)]
        )


def change_image(root: Path) -> None:
    Pictures.new("RGB", (11, 5), (1, 2, 3)).save(root / "images" / "b.png")


def change_label(root: Path) -> None:
    paint(root / "labels" / "b.png", 20)


def shorten_list(root: Path) -> None:
    (root / "train.txt").write_text("b\n", encoding="utf-8")


def touch(root: Path) -> None:
    os.utime(root / "labels" / "a.png", ns=(1, 1))


CHANGES: list[Change] = [change_image, change_label, shorten_list, touch]


@pytest.mark.parametrize("change", CHANGES)
def test_stale_packed_file_is_left_alone_with_a_warning_and_written_again(
    source: Path, target: Path, change: Change
) -> None:
    change(target)
    with pytest.warns(UserWarning, match=r"train\.packed: stale.*read, slowly, until python -m"):
        stale = [*open_nyudv2(target, "train")]
    fresh = [*open_nyudv2(target, "train", packed=False)]
    assert_equal(stale, fresh)
    assert prepare(source, target)
    assert_equal([*open_nyudv2(target, "train")], fresh)
    assert not prepare(source, target)


def test_packed_file_of_another_label_convention_is_not_read(target: Path) -> None:
    told = {"label_offset": 0, "void_value": 254}
    with pytest.warns(UserWarning, match="label convention has changed"):
        reader = open_nyudv2(target, "train", **told)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="holds the values 255 beside"):
        reader[0]


def test_packed_files_are_added_to_a_folder_without(source: Path) -> None:
    target = source.with_name("target")
    assert main(["prepare", "--no-packed", str(source), str(target)]) == 0
    assert not list(target.glob("*.packed"))
    before = {path: path.stat().st_mtime_ns for path in target.rglob("*") if path.is_file()}
    assert not prepare(source, target, packed=False)
    assert prepare(source, target)
    assert sorted(path.name for path in target.glob("*.packed")) == ["test.packed", "train.packed"]
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_damaged_packed_file_is_refused_and_written_again(source: Path, target: Path) -> None:
    (target / "train.packed").write_bytes(b"RSSEGPK1")
    with pytest.raises(ValueError, match=r"train\.packed: not a packed file, or damaged"):
        open_nyudv2(target, "train")
    assert_equal(samples(target, packed=False), samples(source))
    assert prepare(source, target)
    assert_equal(samples(target), samples(source))


def test_check_compares_packed_files_with_their_checksums(target: Path) -> None:
    assert not any(report.faults for report in check(target).values())
    content = bytearray((target / "train.packed").read_bytes())
    content[28 + 11 * 5 * 4 + 3] ^= 1  # in the image of b
    (target / "train.packed").write_bytes(content)
    (target / "test.packed").write_bytes(content[:-1])
    reports = check(target)
    assert len(reports["train"].faults) == len(reports["test"].faults) == 1
    assert "train.packed: b is damaged; remove it" in reports["train"].faults[0]
    assert "test.packed: not a packed file, or damaged" in reports["test"].faults[0]


@pytest.mark.parametrize("change", CHANGES)
def test_untouched_folder_is_written_anew_when_its_source_has_changed(
    source: Path, target: Path, change: Change
) -> None:
    change(source)
    assert prepare(source, target)
    assert_equal(samples(target), samples(source))
    assert sorted(path.name for path in target.parent.iterdir()) == ["source", "target"]
    assert not prepare(source, target)


def test_folder_behind_a_link_is_exchanged_and_the_link_kept(source: Path, target: Path) -> None:
    far = source.parent / "disk" / "far"
    far.parent.mkdir()
    target.rename(far)
    target.symlink_to(far)
    change_label(source)
    assert prepare(source, target)
    assert target.is_symlink()
    assert_equal(samples(far), samples(source))


def add_note(root: Path) -> None:
    (root / "note.txt").write_text("b is odd", encoding="utf-8")


def forget(root: Path) -> None:
    """Make the record one of an older version, which does not tell what was written."""
    facts = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
    del facts["written"]
    (root / "dataset.json").write_text(json.dumps(facts), encoding="utf-8")


@pytest.mark.parametrize("edit", [*CHANGES, add_note, forget])
def test_edited_folder_is_kept_when_its_source_has_changed(
    source: Path, target: Path, edit: Change
) -> None:
    edit(target)
    before = {path: path.stat().st_mtime_ns for path in target.rglob("*")}
    change_label(source)
    with pytest.raises(FileExistsError, match="remove it or choose another target"):
        prepare(source, target)
    assert before == {path: path.stat().st_mtime_ns for path in target.rglob("*")}


def test_edit_made_during_the_preparation_is_kept(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_label(source)
    pack = nyudv2_prepare._pack

    def slow(work: Path, classes: int) -> bool:
        add_note(target)
        return pack(work, classes)

    monkeypatch.setattr(nyudv2_prepare, "_pack", slow)
    with pytest.raises(FileExistsError, match="has changed since"):
        prepare(source, target)
    assert (target / "note.txt").is_file()


def test_folder_from_a_source_inside_it_is_never_exchanged(source: Path, target: Path) -> None:
    shutil.move(source, target / "source")
    change_label(target / "source")
    with pytest.raises(FileExistsError, match="has changed since"):
        prepare(target / "source", target)


def test_prepared_folder_is_not_exchanged_for_itself(source: Path) -> None:
    target = source.parent / "other" / "source"
    prepare(source, target)
    with pytest.raises(FileExistsError, match="another source"):
        prepare(target, target)


def test_faulty_new_source_leaves_the_folder_as_it_was(source: Path, target: Path) -> None:
    expected = samples(target)
    paint(source / "labels" / "a.png", 99)
    with pytest.raises(ValueError, match=r"a\.png: holds the values 99|cannot tell"):
        prepare(source, target, label_offset=1)
    assert_equal(samples(target), expected)
    assert sorted(path.name for path in target.parent.iterdir()) == ["source", "target"]


def test_exchange_that_fails_puts_the_folder_back(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_label(source)
    expected, rename = samples(target), Path.rename

    def fail(self: Path, name: Path) -> Path:
        if name == target and self.name == target.name:
            raise KeyboardInterrupt
        return rename(self, name)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(KeyboardInterrupt):
        prepare(source, target)
    assert_equal(samples(target), expected)
    assert sorted(path.name for path in target.parent.iterdir()) == ["source", "target"]
