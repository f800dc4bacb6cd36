"""Tar files: the images and classes of timm's reader, in the order of class folders."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from timm.data.readers.reader_image_in_tar import ReaderImageInTar

from datasets.imagenet.images import LabelledImages
from datasets.imagenet.reader import open_images
from datasets.imagenet.tars import list_tars
from rsseg.classifiers.config import ImageDataConfig
from rsseg.images.reading import read_image
from tests.datasets.imagenet.test_reader import CLASSES, write_tree


def opened(root: Path, split: Any = "train", classes: int = 3, **settings: Any) -> LabelledImages:
    return open_images(ImageDataConfig(root=str(root), **settings), split, classes)


def one_tar(root: Path, split: str) -> str:
    with tarfile.open(root / f"{split}.tar", "w") as tar:
        tar.add(root / split, arcname=split)
    return f"{split}.tar"


def tar_for_each_class(root: Path, split: str) -> str:
    (root / f"{split}_tars").mkdir()
    for folder in (root / split).iterdir():
        with tarfile.open(root / f"{split}_tars" / f"{folder.name}.tar", "w") as tar:
            for file in folder.iterdir():
                tar.add(file, arcname=file.name)
    return f"{split}_tars"


def tar_of_tars(root: Path, split: str) -> str:
    folder = tar_for_each_class(root, split)
    with tarfile.open(root / f"{split}.tar", "w") as tar:
        for file in (root / folder).iterdir():
            tar.add(file, arcname=file.name)
    return f"{split}.tar"


# timm leaves its tar files open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("pack", [one_tar, tar_for_each_class, tar_of_tars])
def test_packed_images_are_those_of_the_folders_and_of_timm(
    tmp_path: Path, pack: Callable[[Path, str], str]
) -> None:
    write_tree(tmp_path)
    settings: dict[str, Any] = {"train": pack(tmp_path, "train"), "val": pack(tmp_path, "val")}
    for split in ("train", "test"):
        tree, packed = opened(tmp_path, split), opened(tmp_path, split, **settings)
        assert packed.classes == tree.classes == CLASSES
        assert packed.labels.tolist() == tree.labels.tolist()
        for index in range(len(tree)):
            assert packed.name(index) == tree.name(index)
            np.testing.assert_array_equal(packed[index][0], tree[index][0])
    reader = ReaderImageInTar(str(tmp_path / settings["train"]))
    theirs = {(file.read(), int(label)) for file, label in (reader[i] for i in range(len(reader)))}
    tree = opened(tmp_path)
    files = [tmp_path / "train" / tree.name(index) for index in range(len(tree))]
    assert theirs == {(f.read_bytes(), k) for f, k in zip(files, tree.labels, strict=True)}


def test_limit_takes_the_same_images_as_of_folders(tmp_path: Path) -> None:
    write_tree(tmp_path, images=5)
    packed = opened(tmp_path, train=one_tar(tmp_path, "train"), limit=2)
    tree = opened(tmp_path, limit=2)
    assert [packed.name(i) for i in range(6)] == [tree.name(i) for i in range(6)]


def test_test_images_need_not_show_every_class(tmp_path: Path) -> None:
    write_tree(tmp_path)
    for file in (tmp_path / "val" / "n02").iterdir():
        file.unlink()
    settings: dict[str, Any] = {
        "train": one_tar(tmp_path, "train"),
        "val": one_tar(tmp_path, "val"),
    }
    assert opened(tmp_path, "test", **settings).labels.tolist() == [0, 0, 2, 2]


def test_image_without_a_class_and_tar_without_images_are_named(tmp_path: Path) -> None:
    write_tree(tmp_path)
    with tarfile.open(tmp_path / "flat.tar", "w") as tar:
        tar.add(tmp_path / "train" / "n01" / "train_0.png", arcname="a.png")
    with pytest.raises(ValueError, match=r"flat\.tar: a\.png lies in no folder, so its class"):
        list_tars(tmp_path / "flat.tar")
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    with pytest.raises(ValueError, match=r"empty\.tar: no image in 1 tar files"):
        list_tars(tmp_path / "empty.tar")


@pytest.mark.parametrize("mode", ["w:gz", "text"])
def test_compressed_and_foreign_files_are_named(tmp_path: Path, mode: Any) -> None:
    path = tmp_path / "a.tar"
    if mode == "text":
        path.write_text("no tar" * 999, encoding="utf-8")
    else:
        with tarfile.open(path, mode) as tar:
            tar.addfile(tarfile.TarInfo("n01/a.png"), io.BytesIO())
    with pytest.raises(ValueError, match=r"a\.tar: not a tar file, or damaged .*unpack it"):
        list_tars(path)


def test_damaged_image_names_tar_and_member(tmp_path: Path) -> None:
    write_tree(tmp_path)
    (tmp_path / "train" / "n01" / "train_0.png").write_bytes(b"no image")
    images = opened(tmp_path, train=one_tar(tmp_path, "train"))
    with pytest.raises(ValueError, match=r"train\.tar: n01/train_0\.png: unreadable image"):
        images[0]


def test_tar_that_was_cut_after_it_was_listed_is_named(tmp_path: Path) -> None:
    write_tree(tmp_path)
    images = opened(tmp_path, train=one_tar(tmp_path, "train"))
    (tmp_path / "train.tar").write_bytes((tmp_path / "train.tar").read_bytes()[:600])
    with pytest.raises(ValueError, match=r"train\.tar: ends inside n10/train_1\.png; copy it anew"):
        images[5]


def test_images_in_memory_are_read_as_files_are(tmp_path: Path) -> None:
    write_tree(tmp_path)
    images = opened(tmp_path, train=one_tar(tmp_path, "train"), decoder="pillow")
    path = tmp_path / "train" / images.name(3)
    np.testing.assert_array_equal(images[3][0], read_image(path))
