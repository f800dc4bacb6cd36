"""Data sets of Hugging Face: their library beside ours of the same name, their rows as images."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pictures

import datasets as ours
from datasets.classification import training_batches
from datasets.imagenet import huggingface
from datasets.imagenet.huggingface import find_theirs, their_datasets
from datasets.imagenet.images import LabelledImages
from datasets.imagenet.reader import open_images
from rsseg.classifiers.config import ImageDataConfig
from tests.datasets.imagenet.test_reader import some_image
from tests.helpers.small_images import image_config

installed = pytest.mark.skipif(find_theirs() is None, reason="needs Hugging Face's datasets")
# Their library warns of its own dependencies.
pytestmark = pytest.mark.filterwarnings("ignore")
NAMES = ("cat", "ant", "bee")


@pytest.fixture(autouse=True)
def _offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))


def write_parquet(
    root: Path,
    *,
    named: bool = True,
    first: int = 0,
    label: str = "label",
    splits: Sequence[str] = ("train", "validation"),
) -> Path:
    root.mkdir(exist_ok=True)
    images = []
    for index in range(12):
        stream = io.BytesIO()
        Pictures.fromarray(some_image(40, 48, index)).save(stream, "png")
        images.append({"bytes": stream.getvalue(), "path": f"{index}.png"})
    with their_datasets():
        import datasets as theirs

        library: Any = theirs
        kind = library.ClassLabel(names=list(NAMES)) if named else library.Value("int64")
        features = library.Features({"image": library.Image(), label: kind})
        labels = [index % 3 + first for index in range(12)]
        table = library.Dataset.from_dict({"image": images, label: labels}, features=features)
        for split in splits:
            table.to_parquet(str(root / f"{split}-00000-of-00001.parquet"))
    return root


def opened(root: Path, split: Any = "train", classes: int = 3, **settings: Any) -> LabelledImages:
    values = {"root": f"hfds/{root}", "val": "validation", **settings}
    return open_images(ImageDataConfig(**values), split, classes)


@installed
def test_rows_are_images_and_classes_with_the_names_of_the_data_set(tmp_path: Path) -> None:
    root = write_parquet(tmp_path / "d")
    for split in ("train", "test"):
        images = opened(root, split)
        assert images.labels.tolist() == [index % 3 for index in range(12)]
        assert images.classes == NAMES
        assert images.name(7) == "row 7"
        for index in (0, 7, 11):
            np.testing.assert_array_equal(images[index][0], some_image(40, 48, index))
    assert len(opened(root, limit=2)) == 6
    assert len(opened(root, train="train[:5]")) == 5


@installed
def test_both_splits_count_their_classes_from_one_number(tmp_path: Path) -> None:
    write_parquet(tmp_path / "d", named=False, splits=["train"])
    root = write_parquet(tmp_path / "d", named=False, first=1, splits=["validation"])
    assert set(opened(root).labels) == {0, 1, 2}
    with pytest.raises(ValueError, match="class 3; expected a number 0 to 2"):
        opened(root, "test")


@installed
def test_our_modules_are_put_back_and_theirs_are_kept(tmp_path: Path) -> None:
    images, path = opened(write_parquet(tmp_path / "d")), sys.path[:]
    with their_datasets():
        theirs = sys.modules["datasets"]
        assert hasattr(theirs, "load_dataset")
    images[0]
    assert sys.modules["datasets"] is ours
    assert sys.modules["datasets.imagenet.huggingface"] is huggingface
    assert sys.path == path
    with their_datasets():
        assert sys.modules["datasets"] is theirs


@installed
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_read_by_any_number_of_workers(tmp_path: Path, workers: int) -> None:
    root = write_parquet(tmp_path / "d")
    data = {"root": f"hfds/{root}", "val": "validation"}
    batches = training_batches(image_config(root, data=data, workers=workers))
    seen = [label for _, target in batches.epoch(0) for label in target.tolist()]
    assert sorted(seen) == sorted([0, 1, 2] * 4)


@installed
def test_plain_numbers_must_prove_what_they_count_from(tmp_path: Path) -> None:
    root = write_parquet(tmp_path / "d", named=False, first=1, label="kind")
    images = opened(root, label_key="kind")
    assert images.labels.tolist() == [index % 3 for index in range(12)]
    assert images.classes == ("class 1", "class 2", "class 3")
    with pytest.raises(ValueError, match=r"numbers from 1 to 3, and model\.classes is 4"):
        opened(root, classes=4, label_key="kind")


@installed
def test_missing_columns_splits_and_names_are_told(tmp_path: Path) -> None:
    root = write_parquet(tmp_path / "d")
    with pytest.raises(ValueError, match=r"no column 'kind' of classes; .* one of image, label"):
        opened(root, label_key="kind")
    with pytest.raises(ValueError, match=r"split 'test': .*set data\.root, the splits"):
        opened(root, "test", val="test")
    with pytest.raises(ValueError, match=r"has 3 classes and model\.classes is 5"):
        opened(root, classes=5)
    with pytest.raises(ValueError, match=r"hfds/.*nowhere.*set data\.root"):
        opened(tmp_path / "nowhere")


def test_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface, "find_theirs", lambda: None)
    monkeypatch.setattr(huggingface, "_theirs", {})
    with pytest.raises(ImportError, match=r"datasets is not installed; pip install 'rsseg\[read"):
        opened(Path("anything"))
    assert sys.modules["datasets"] is ours
