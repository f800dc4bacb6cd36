"""Labelled images: trees and flat folders are listed as their names say, and faults are named."""

from __future__ import annotations

import pickle
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pictures
from torchvision.datasets import ImageFolder

from datasets.imagenet.images import summary_of
from datasets.imagenet.reader import ImageFiles, open_images
from datasets.samples import is_kept_for_test
from rsseg.classifiers.config import ImageDataConfig
from rsseg.images.preprocessing import Image

CLASSES = ("n01", "n02", "n10")
CLASS_INDICES = [0, 0, 1, 1, 2, 2]


def some_image(height: int = 5, width: int = 7, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_image(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pictures.fromarray(some_image(seed=seed)).save(path)


def write_tree(root: Path, *, images: int = 2, splits: tuple[str, ...] = ("train", "val")) -> Path:
    """Write folders of 3 classes, each with images of which every one is another."""
    for split in splits:
        for number, folder in enumerate(reversed(CLASSES)):
            for index in range(images):
                write_image(root / split / folder / f"{split}_{index}.png", seed=9 * number + index)
    return root


def opened(root: Path, split: Any = "train", classes: int = 3, **settings: Any) -> ImageFiles:
    images = open_images(ImageDataConfig(root=str(root), **settings), split, classes)
    assert isinstance(images, ImageFiles)
    return images


def names_of(images: ImageFiles) -> list[str]:
    return [images.name(index) for index in range(len(images))]


@pytest.mark.parametrize(("split", "folder"), [("train", "train"), ("test", "val")])
def test_tree_is_listed_as_torchvision_lists_it(tmp_path: Path, split: str, folder: str) -> None:
    write_tree(tmp_path)
    images, other = opened(tmp_path, split), ImageFolder(str(tmp_path / folder))
    assert [str(images.path(index)) for index in range(len(images))] == [
        p for p, _ in other.samples
    ]
    assert images.labels.tolist() == other.targets == CLASS_INDICES
    assert images.labels.dtype == np.int64
    assert images.classes == tuple(other.classes) == CLASSES
    assert images.name(1) == f"n01/{folder}_1.png"
    for index in range(6):
        image, label = images[index]
        np.testing.assert_array_equal(image, np.asarray(other[index][0]))
        assert (type(label), label) == (int, other.targets[index])


def test_paths_are_one_array_that_survives_pickling(tmp_path: Path) -> None:
    images = opened(write_tree(tmp_path))
    held = [value for value in vars(images).values() if len(np.shape(value)) and len(value) == 6]
    assert [value.dtype.kind for value in held] == ["i", "S"]
    copy = pickle.loads(pickle.dumps(images))
    assert names_of(copy) == names_of(images)
    with pytest.raises(IndexError):
        images[6]


def test_hidden_and_foreign_files_are_left_out_and_suffixes_may_be_of_any_case(
    tmp_path: Path,
) -> None:
    write_tree(tmp_path)
    folder = tmp_path / "train" / "n02"
    for name in (".hidden.png", "notes.txt", "png", ".DS_Store"):
        (folder / name).write_text("no image", encoding="utf-8")
    for name in ("a.JPEG", "b.JPG", "c.Bmp", "d.gif", "e.webp", "f.tif", "g.TIFF", "h.jpeg"):
        write_image(folder / name)
    (folder / "below.png").mkdir()
    (tmp_path / "train" / ".cache").mkdir()
    (tmp_path / "train" / "README.md").write_text("text", encoding="utf-8")
    assert [n[4:] for n in names_of(opened(tmp_path)) if n.startswith("n02")] == [
        *("a.JPEG", "b.JPG", "c.Bmp", "d.gif", "e.webp", "f.tif", "g.TIFF", "h.jpeg"),
        *("train_0.png", "train_1.png"),
    ]


def test_names_of_any_letters_and_lengths_are_kept(tmp_path: Path) -> None:
    write_tree(tmp_path)
    name = "tête bêche 鱼 " + "x" * 100 + ".png"
    write_image(tmp_path / "train" / "n10" / name, seed=77)
    images = opened(tmp_path)
    index = names_of(images).index(f"n10/{name}")
    np.testing.assert_array_equal(images[index][0], some_image(seed=77))


def test_name_that_is_no_utf_8_is_refused(tmp_path: Path) -> None:
    write_tree(tmp_path)
    try:
        write_image(tmp_path / "train" / "n10" / "bad\udcff.png")
    except OSError:
        pytest.skip("this file system knows UTF-8 only")
    with pytest.raises(ValueError, match=r"train: name 'n10/bad\\udcff\.png' is not UTF-8"):
        opened(tmp_path)


def test_class_folders_and_images_may_be_links(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "d")
    (root / "train" / "n02").rename(tmp_path / "elsewhere")
    (root / "train" / "n02").symlink_to(tmp_path / "elsewhere")
    (root / "train" / "n01" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    images = opened(root)
    assert names_of(images)[:4] == [
        "n01/gone.png",
        *[f"n01/train_{i}.png" for i in (0, 1)],
        "n02/train_0.png",
    ]
    images[3]
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        images[0]


@pytest.mark.parametrize(
    ("limit", "kept"), [(1, [0]), (2, [0, 6]), (4, [0, 2, 4, 6]), (9, range(7))]
)
def test_limit_spreads_over_each_class_of_the_training_images(
    tmp_path: Path, limit: int, kept: list[int]
) -> None:
    write_tree(tmp_path, images=7)
    expected = [f"{folder}/train_{index}.png" for folder in CLASSES for index in kept]
    images = opened(tmp_path, limit=limit)
    assert names_of(images) == expected
    assert images.labels.tolist() == [CLASSES.index(name[:3]) for name in expected]
    assert len(opened(tmp_path, "test", limit=limit)) == 21


def test_splits_may_lie_in_other_folders(tmp_path: Path) -> None:
    write_tree(tmp_path / "d", splits=("a",))
    write_tree(tmp_path, splits=("b",))
    settings: dict[str, Any] = {"train": "a", "val": str(tmp_path / "b")}
    assert opened(tmp_path / "d", **settings).name(0) == "n01/a_0.png"
    assert opened(tmp_path / "d", "test", **settings).path(0) == tmp_path / "b" / "n01" / "b_0.png"


@pytest.mark.parametrize("empty", [False, True])
def test_test_images_alone_are_enough(tmp_path: Path, empty: bool) -> None:
    write_tree(tmp_path, splits=("val",))
    if empty:
        (tmp_path / "train").mkdir()
    assert opened(tmp_path, "test").labels.tolist() == CLASS_INDICES


def test_class_without_test_images_keeps_its_index(tmp_path: Path) -> None:
    write_tree(tmp_path)
    for path in (tmp_path / "val" / "n02").iterdir():
        path.unlink()
    assert opened(tmp_path, "test").labels.tolist() == [0, 0, 2, 2]


def test_class_without_training_images_is_named(tmp_path: Path) -> None:
    write_tree(tmp_path)
    (tmp_path / "train" / "n05" / "images").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"train: no images in 1 class folders \(n05\); .*below"):
        opened(tmp_path, classes=4)


def test_folders_of_both_splits_must_be_the_same(tmp_path: Path) -> None:
    write_tree(tmp_path)
    (tmp_path / "val" / "n02").rename(tmp_path / "val" / "n07")
    with pytest.raises(ValueError, match=r"val has no n02 and has the unknown n07; .*train"):
        opened(tmp_path, "test")


@pytest.mark.parametrize("splits", [("train", "val"), ("val",)])
def test_wrong_number_of_classes_names_both_numbers(
    tmp_path: Path, splits: tuple[str, ...]
) -> None:
    write_tree(tmp_path, splits=splits)
    message = rf"{splits[0]} holds 3 class folders \(n01.*model\.classes is 10; set model\.classes"
    with pytest.raises(ValueError, match=message):
        opened(tmp_path, "test", classes=10)


@pytest.mark.parametrize(
    ("gone", "split", "key"),
    [("", "train", "train"), ("train", "train", "train"), ("val", "test", "val")],
)
def test_missing_folder_tells_the_layout_and_the_keys(
    tmp_path: Path, gone: str, split: str, key: str
) -> None:
    write_tree(tmp_path / "d")
    (tmp_path / "d" / gone).rename(tmp_path / "moved")
    message = (
        rf"d{'/' * bool(gone)}{gone}: no such folder.*d/train/CLASS/.*data\.root and data\.{key}"
    )
    with pytest.raises(FileNotFoundError, match=message):
        opened(tmp_path / "d", split)


def test_folder_that_is_neither_tree_nor_flat_is_refused(tmp_path: Path) -> None:
    write_tree(tmp_path)
    write_image(tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(ValueError, match=r"val holds 3 class folders and 1 image .*ILSVRC2012_val"):
        opened(tmp_path, "test")
    (tmp_path / "flat").mkdir()
    with pytest.raises(ValueError, match=r"flat holds 0 class folders and 0 images .*\(nothing\)"):
        opened(tmp_path, "test", val="flat")
    write_image(tmp_path / "flat" / "a.jpg")
    with pytest.raises(ValueError, match=r"flat holds 0 class folders and 1 .*give each class one"):
        opened(tmp_path, train="flat")
    with pytest.raises(ValueError, match=r"unknown split 'val'; the splits are train, test"):
        opened(tmp_path, "val")


def write_flat(root: Path, classes: tuple[str, ...] = ("n10", "n01", "n10")) -> Path:
    """Write three images into one folder, and their labels."""
    names = [f"ILSVRC2012_val_{index:08}.JPEG" for index in range(1, 1 + len(classes))]
    for index, name in enumerate(names):
        write_image(root / "val" / name, seed=index)
    lines = [f"{name} {folder}" for name, folder in zip(names, classes, strict=True)]
    (root / "labels.txt").write_text("\n".join(reversed(lines)), encoding="utf-8")
    return root


@pytest.mark.parametrize("absolute", [False, True])
def test_flat_folder_takes_its_labels_from_a_file(tmp_path: Path, absolute: bool) -> None:
    write_flat(write_tree(tmp_path, splits=("train",)))
    labels = str(tmp_path / "labels.txt") if absolute else "labels.txt"
    images = opened(tmp_path, "test", val_labels=labels, limit=1)
    assert images.labels.tolist() == [2, 0, 2]
    assert images.classes == CLASSES
    assert images.name(1) == "ILSVRC2012_val_00000002.JPEG"
    assert images[1][0].shape == (5, 7, 3)


def test_flat_folder_alone_takes_its_classes_from_the_labels(tmp_path: Path) -> None:
    write_flat(tmp_path)
    images = opened(tmp_path, "test", classes=2, val_labels="labels.txt")
    assert (images.labels.tolist(), images.classes) == ([1, 0, 1], ("n01", "n10"))


def test_labels_are_asked_for_where_they_are_needed_and_only_there(tmp_path: Path) -> None:
    write_flat(tmp_path)
    with pytest.raises(ValueError, match=r"val holds images and no class .*set data\.val_labels"):
        opened(tmp_path, "test")
    with pytest.raises(FileNotFoundError, match=r"none\.txt: no such file; set data\.val_labels"):
        opened(tmp_path, "test", val_labels="none.txt")
    write_tree(tmp_path / "tree")
    with pytest.raises(ValueError, match=r"val holds class folders, so data\.val_labels"):
        opened(tmp_path / "tree", "test", val_labels="labels.txt")


def test_classes_bear_the_names_of_the_file_that_is_there_or_set(tmp_path: Path) -> None:
    write_tree(tmp_path)
    (tmp_path / "classes.txt").write_text("n10 ray\nn01 tench, fish\nn02 shark\n", encoding="utf-8")
    (tmp_path / "other.txt").write_text("one\ntwo\nthree\n", encoding="utf-8")
    for split in ("train", "test"):
        assert opened(tmp_path, split).classes == ("tench, fish", "shark", "ray")
        assert opened(tmp_path, split, names="other.txt").classes == ("one", "two", "three")
    with pytest.raises(FileNotFoundError, match=r"none\.txt: no such file; set data\.names"):
        opened(tmp_path, names="none.txt")


def turned(path: Path) -> Image:
    exif = Pictures.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    Pictures.fromarray(np.rot90(some_image()).copy()).save(path, exif=exif)
    return some_image()


def grey(path: Path) -> Image:
    Pictures.fromarray(some_image()[..., 0]).save(path)
    return np.repeat(some_image()[..., :1], 3, axis=-1)


def grey_of_16_bits(path: Path) -> Image:
    Pictures.fromarray(some_image()[..., 0].astype(np.uint16) * 257).save(path)
    return np.repeat(some_image()[..., :1], 3, axis=-1)


def opaque(path: Path) -> Image:
    Pictures.fromarray(some_image()).convert("RGBA").save(path)
    return some_image()


@pytest.mark.parametrize("write", [turned, grey, grey_of_16_bits, opaque])
def test_image_of_any_kind_is_read_upright_and_in_colour(
    tmp_path: Path, write: Callable[[Path], Image]
) -> None:
    write_tree(tmp_path)
    expected = write(tmp_path / "train" / "n01" / "train_0.png")
    np.testing.assert_array_equal(opened(tmp_path)[0][0], expected)


def test_jpeg_for_the_press_is_read_as_rgb(tmp_path: Path) -> None:
    write_tree(tmp_path)
    path = tmp_path / "train" / "n01" / "a.jpg"
    Pictures.new("CMYK", (7, 5), (0, 255, 255, 0)).save(path)
    image, label = opened(tmp_path)[0]
    assert (image.shape, label) == ((5, 7, 3), 0)
    assert np.abs(image.astype(int) - (255, 0, 0)).max() <= 2


def test_damaged_image_is_named_when_it_is_read(tmp_path: Path) -> None:
    write_tree(tmp_path)
    Pictures.fromarray(some_image(50, 50)).save(tmp_path / "train" / "n01" / "a.jpg")
    whole = (tmp_path / "train" / "n01" / "a.jpg").read_bytes()
    (tmp_path / "train" / "n01" / "a.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "train" / "n01" / "b.jpg").write_bytes(b"")
    images = opened(tmp_path)
    for index, name in enumerate(("a", "b")):
        with pytest.raises(ValueError, match=rf"n01/{name}\.jpg: unreadable image"):
            images[index]


def test_share_of_the_images_is_the_test_and_new_images_move_no_other(tmp_path: Path) -> None:
    for name in CLASSES:
        for index in range(20):
            write_image(tmp_path / name / f"{index}.png", seed=index)
    share: dict[str, Any] = {"train": ".", "test_share": 0.3}
    data = ImageDataConfig(root=str(tmp_path), **share)
    train, test = (open_images(data, split, 3) for split in ("train", "test"))
    names = [{part.name(index) for index in range(len(part))} for part in (train, test)]
    every = {f"{name}/{index}.png" for name in CLASSES for index in range(20)}
    assert names[0] | names[1] == every
    assert not names[0] & names[1]
    assert names[1] == {name for name in every if is_kept_for_test(name, 0.3)}
    for part in (train, test):
        for index in (0, len(part) - 1):
            folder, _, file = part.name(index).partition("/")
            image, label = part[index]
            assert CLASSES[label] == folder
            np.testing.assert_array_equal(image, some_image(seed=int(file.removesuffix(".png"))))
    assert "test part by a hash of the names, test_share 0.3" in summary_of(test)
    assert "training part" in summary_of(train)
    write_image(tmp_path / "n01/new.png")
    after = open_images(data, "test", 3)
    assert {after.name(index) for index in range(len(after))} - {"n01/new.png"} == names[1]
    few = open_images(replace(data, limit=2), "train", 3)
    assert np.bincount(few.labels).tolist() == [2, 2, 2]


def test_share_beside_named_test_images_or_of_nothing_is_refused(tmp_path: Path) -> None:
    share: dict[str, Any] = {"root": str(write_tree(tmp_path)), "test_share": 0.5}
    with pytest.raises(ValueError, match="val is of the test images, and test_share takes"):
        ImageDataConfig(**share, val="test")
    with pytest.raises(ValueError, match="needs images by index"):
        ImageDataConfig(root="wds/x", test_share=0.5)
    with pytest.raises(ValueError, match="of 6 images leaves 6 for training and 0 for the test"):
        open_images(ImageDataConfig(root=str(tmp_path), test_share=0.001), "train", 3)


def test_share_of_a_list_and_of_a_tar_file_is_that_of_the_names(tmp_path: Path) -> None:
    write_tree(tmp_path, images=8, splits=("train",))
    names = [f"{name}/train_{index}.png" for name in CLASSES for index in range(8)]
    lines = [f"train/{name},{name.partition('/')[0]}" for name in names]
    (tmp_path / "all.csv").write_text("\n".join(lines), encoding="utf-8")
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        for name in names:
            tar.add(tmp_path / "train" / name, name)
    for train, prefix in (("all.csv", "train/"), ("all.tar", "")):
        data = ImageDataConfig(root=str(tmp_path), train=train, test_share=0.4)
        test = open_images(data, "test", 3)
        expected = {prefix + name for name in names if is_kept_for_test(prefix + name, 0.4)}
        assert {test.name(index) for index in range(len(test))} == expected
        assert len(test) + len(open_images(data, "train", 3)) == 24
