"""Every reader at a file that has gone, is a folder, is empty, or may not be read: it is named."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from datasets.imagenet.labels import read_class_names, read_flat_labels
from datasets.imagenet.synsets import read_synsets
from datasets.nyudv2.folder import FolderReader, read_names
from datasets.nyudv2.packed import PackedFile
from datasets.nyudv2.reader import open_nyudv2
from rsseg.analysis.accuracy_plot import read_curve
from rsseg.analysis.correctness import read_answers
from rsseg.analysis.results import comparison_table, read_comparison
from rsseg.classifiers.published import load_published
from rsseg.common.config import load_config
from rsseg.common.files import read_json, read_text
from rsseg.common.state_files import read_state
from rsseg.images.reading import image_size, read_image
from rsseg.segmentation.label_files import read_label_values
from rsseg.segmentation.labels import complete_reading
from rsseg.training.config import RunConfig
from tests.helpers.small_folder import every_value, write_folder

# Name of the file, and who reads it.
READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "configuration": ("run.yaml", lambda path: load_config(RunConfig, path)),
    "image": ("photo.jpg", read_image),
    "size of an image": ("photo.png", image_size),
    "label map": ("label.png", read_label_values),
    "official file": ("nyu.mat", lambda path: open_nyudv2(path, "train")),
    "packed file": ("train.packed", PackedFile),
    "list": ("train.txt", read_names),
    "state": ("weights.pth", read_state),
    "safetensors": ("weights.safetensors", read_state),
    "published weights": ("model_best.pth.tar", load_published),
    "results": ("results.json", lambda path: comparison_table(read_comparison([path]))),
    "curve": ("results.json", lambda path: read_curve(path, None, "resolution")),
    "answers": ("correctness.npz", lambda path: read_answers(path.parent)),
    "labels": ("val.txt", lambda path: read_flat_labels(path, ["a.jpg"], ("n1",), 1)),
    "names": ("names.txt", lambda path: read_class_names(path, ("n1",))),
    "key of the numbers": ("meta.mat", read_synsets),
    "JSON": ("facts.json", read_json),
}


def absent(path: Path) -> None:
    """Leave nothing there."""


def behind_a_file(path: Path) -> None:
    """Put a file where the path needs a folder."""
    path.parent.rmdir()
    path.parent.touch()


def endless_link(path: Path) -> None:
    path.symlink_to(path)


def dangling_link(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def unreadable(path: Path) -> None:
    path.touch(mode=0o000)


PLACES: dict[str, Callable[[Path], None]] = {
    "absent": absent,
    "folder": Path.mkdir,
    "empty": Path.touch,
    "behind a file": behind_a_file,
    "endless link": endless_link,
    "dangling link": dangling_link,
    "unreadable": unreadable,
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("reader", READERS)
def test_file_that_cannot_be_read_is_named(tmp_path: Path, reader: str, place: str) -> None:
    if place == "unreadable" and os.geteuid() == 0:
        pytest.skip("root may read everything")
    name, read = READERS[reader]
    (tmp_path / "place").mkdir()
    path = tmp_path / "place" / name
    PLACES[place](path)
    with pytest.raises((ValueError, OSError)) as caught:
        read(path)
    assert "place" in str(caught.value)
    assert name.split(".", maxsplit=1)[0] in str(caught.value)


def test_empty_text_is_a_text(tmp_path: Path) -> None:
    (tmp_path / "x.txt").touch()
    assert read_text(tmp_path / "x.txt") == ""


@pytest.mark.parametrize("place", [absent, Path.mkdir, Path.touch, dangling_link])
@pytest.mark.parametrize("name", ["images/a.png", "labels/a.png", "train.txt", "dataset.json"])
def test_file_of_a_folder_that_vanishes_is_named_when_it_is_read(
    tmp_path: Path, name: str, place: Callable[[Path], None]
) -> None:
    root = write_folder(tmp_path / "rooms", every_value(0, 1, 2))
    reader = FolderReader(root, "train", classes=3, reading=complete_reading(0, None))
    (root / name).unlink(missing_ok=True)
    place(root / name)
    if "/" in name:
        with pytest.raises((ValueError, OSError), match=name):
            _ = reader[0]
    elif not (name == "dataset.json" and place in (absent, Path.mkdir, dangling_link)):
        with pytest.raises((ValueError, OSError), match=name):
            FolderReader(root, "train", classes=3)
