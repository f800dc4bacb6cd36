"""Lists of images and classes: every accepted form, and no class that is guessed."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from datasets.imagenet.images import LabelledImages, absent_classes
from datasets.imagenet.labels import read_flat_labels
from datasets.imagenet.lists import read_label_list
from datasets.imagenet.reader import open_images
from rsseg.classifiers.config import ImageDataConfig
from tests.datasets.imagenet.test_reader import write_image, write_tree

FILES = [f"{letter}.png" for letter in "abcdef"]


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def opened(root: Path, split: Any, classes: int, **settings: Any) -> LabelledImages:
    return open_images(ImageDataConfig(root=str(root), **settings), split, classes)


def flat_list(root: Path, name: str, labels: list[Any]) -> None:
    """Write an image for each label, and the list that names them."""
    files = [f"{name}_{index}.png" for index in range(len(labels))]
    for index, file in enumerate(files):
        write_image(root / file, seed=index)
    lines = [f"{file} {label}" for file, label in zip(files, labels, strict=True)]
    write(root / f"{name}.txt", *lines)


@pytest.mark.parametrize("separator", [" ", "\t", ",", ", ", "   "])
@pytest.mark.parametrize("header", [None, "path{}label", "Image{}Class"])
def test_two_columns_are_image_and_class(
    tmp_path: Path, separator: str, header: str | None
) -> None:
    lines = [header.format(separator)] if header else []
    path = write(tmp_path / "a.txt", *lines, *(f"x/{f}{separator}7" for f in FILES))
    assert read_label_list(path, "data.train") == ([f"x/{f}" for f in FILES], ["7"] * 6)


def test_columns_are_taken_by_their_names_and_cells_may_be_quoted(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "species", "width", "file_name"])
        rows.writerow([1, "owl, barn", 640, "x y/a.png"])
        rows.writerow([2, "tit", 480, "b.JPG"])
    assert read_label_list(path, "data.train") == (["x y/a.png", "b.JPG"], ["owl, barn", "tit"])


def test_class_may_stand_first_where_only_the_second_column_is_an_image(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "owl,a.png", "tit,b.png")
    assert read_label_list(path, "data.train") == (["a.png", "b.png"], ["owl", "tit"])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a.png,owl,3", "b.png,tit,4"], "3 columns and no line that names them"),
        (["id,kind,size", "a.png,owl,3"], "does not name one column of images"),
        (["path,label"], "does not name one column of images"),
        (["path,label", "a.png,owl", "notes,tit"], "'notes tit' is not an image and its class"),
        (["a.png,owl", "b.png,"], "is not an image and its class"),
        (["a.png owl", "b.png tit", "a.png tit"], r"1 image with two classes \(a\.png\)"),
    ],
)
def test_list_that_says_less_is_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_label_list(write(tmp_path / "a.csv", *lines), "data.train")


@pytest.mark.parametrize(
    ("values", "first"), [([0, 1, 2], 0), ([1, 2, 3], 1), ([0, 0], 0), ([3, 3], 1), ([0, 2], 0)]
)
def test_numbers_count_from_what_a_zero_or_the_last_class_proves(
    tmp_path: Path, values: list[int], first: int
) -> None:
    files = FILES[: len(values)]
    lines = [f"{file} {value}" for file, value in zip(files, values, strict=True)]
    path = write(tmp_path / "a.txt", *lines)
    labels, order = read_flat_labels(path, files, (), 3)
    assert labels.tolist() == [value - first for value in values]
    assert order == tuple(str(first + index) for index in range(3))


@pytest.mark.parametrize("folders", [(), ("ant", "bee", "cat")])
def test_numbers_that_prove_nothing_are_refused_with_both_readings(
    tmp_path: Path, folders: tuple[str, ...]
) -> None:
    path = write(tmp_path / "a.txt", "a.png 1", "b.png 2")
    with pytest.raises(ValueError, match=r"numbers from 1 to 2, and model\.classes is 3") as caught:
        read_flat_labels(path, FILES[:2], folders, 3)
    first, second = ("class 'ant'", "class 'bee'") if folders else ("first", "second")
    assert f"data: {{label_offset: 0}}   # counted from 0: 1 is the {second}" in str(caught.value)
    assert f"data: {{label_offset: 1}}   # counted from 1: 1 is the {first}" in str(caught.value)
    for offset in (0, 1):
        labels, _ = read_flat_labels(path, FILES[:2], folders, 3, offset=offset)
        assert labels.tolist() == [1 - offset, 2 - offset]


def test_offset_that_the_values_contradict_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "a.png 0", "b.png 2")
    with pytest.raises(ValueError, match=r"1 unknown class \(0\); the 3 known .* 1, 2, 3"):
        read_flat_labels(path, FILES[:2], (), 3, offset=1)
    both = write(tmp_path / "b.txt", "a.png 0", "b.png 3")
    with pytest.raises(ValueError, match=r"1 unknown class \(3\)"):
        read_flat_labels(both, FILES[:2], (), 3)


def test_offset_of_numbers_that_name_class_folders_is_refused(tmp_path: Path) -> None:
    path, folders = write(tmp_path / "a.txt", "a.png 1", "b.png 2"), ("1", "10", "2")
    labels, order = read_flat_labels(path, FILES[:2], folders, 3)
    assert [order[label] for label in labels] == ["1", "2"]
    for offset in (0, 1):
        with pytest.raises(ValueError, match=r"a\.txt: data\.label_offset is .* names \(1, 2\)"):
            read_flat_labels(path, FILES[:2], folders, 3, offset=offset)
    for name in folders:
        (tmp_path / "train" / name).mkdir(parents=True)
    write(tmp_path / "val.csv", "path,label", "val/a.png,1", "val/b.png,2")
    with pytest.raises(ValueError, match=r"val\.csv: data\.label_offset is 0, but class folders"):
        opened(tmp_path, "test", 3, val="val.csv", label_offset=0)


def test_lists_are_read_as_the_folders_that_they_name(tmp_path: Path) -> None:
    write_tree(tmp_path)
    for split, folder in (("train", "train"), ("test", "val")):
        tree = opened(tmp_path, split, 3)
        names = [f"{folder}/{tree.name(index)}" for index in range(len(tree))]
        lines = [f"{n},{tree.classes[k]}" for n, k in zip(names, tree.labels, strict=True)]
        write(tmp_path / f"{folder}.csv", "path,label", *lines)
    for split in ("train", "test"):
        tree = opened(tmp_path, split, 3)
        listed = opened(tmp_path, split, 3, train="train.csv", val="val.csv")
        assert listed.labels.tolist() == tree.labels.tolist()
        assert listed.classes == tree.classes
        assert all((listed[index][0] == tree[index][0]).all() for index in range(len(tree)))


def test_one_list_may_prove_what_the_other_does_not(tmp_path: Path) -> None:
    flat_list(tmp_path, "train", [1, 2, 3])
    flat_list(tmp_path, "val", [1, 2, 2])
    settings = {"train": "train.txt", "val": "val.txt"}
    tests = opened(tmp_path, "test", 3, **settings)
    assert tests.labels.tolist() == [0, 1, 1]
    assert tests.classes == ("class 1", "class 2", "class 3")
    assert opened(tmp_path, "train", 3, **settings).classes == tests.classes


def test_class_without_training_image_is_an_error_unless_allowed(tmp_path: Path) -> None:
    flat_list(tmp_path, "train", [0, 2, 2])
    flat_list(tmp_path, "val", [0, 1])
    settings = {"train": "train.txt", "val": "val.txt"}
    with pytest.raises(ValueError, match=r"1 of 3 classes have no .*\(class 1\).*allow_absent"):
        opened(tmp_path, "train", 3, **settings)
    images = opened(tmp_path, "train", 3, allow_absent=True, **settings)
    assert absent_classes(images) == ["class 1"]
    assert opened(tmp_path, "test", 3, **settings).labels.tolist() == [0, 1]


def test_list_of_tests_goes_by_the_folders_of_the_training(tmp_path: Path) -> None:
    write_tree(tmp_path, splits=("train",))
    flat_list(tmp_path, "val", [0, 2, 1])
    tests = opened(tmp_path, "test", 3, val="val.txt")
    assert (tests.labels.tolist(), tests.classes) == ([0, 2, 1], ("n01", "n02", "n10"))
    flat_list(tmp_path, "val", ["n10", "n01"])
    assert opened(tmp_path, "test", 3, val="val.txt").labels.tolist() == [2, 0]
    flat_list(tmp_path, "val", ["n10", "eel"])
    with pytest.raises(ValueError, match=r"1 unknown class \(eel\)"):
        opened(tmp_path, "test", 3, val="val.txt")


def test_folders_whose_names_are_numbers_keep_names_and_order(tmp_path: Path) -> None:
    for name in range(11):
        write_image(tmp_path / "train" / str(name) / "a.png")
    images = opened(tmp_path, "train", 11)
    assert images.classes == ("0", "1", "10", *(str(name) for name in range(2, 10)))


def test_missing_images_and_another_number_of_classes_are_named(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "a.png,owl", "b.png,tit")
    write_image(tmp_path / "a.png")
    with pytest.raises(FileNotFoundError, match=r"1 do not exist \(b\.png\); paths count from"):
        opened(tmp_path, "train", 2, train="train.csv")
    with pytest.raises(ValueError, match=r"train\.csv tells 2 classes \(owl, tit\) and .* is 3"):
        opened(tmp_path, "train", 3, train="train.csv")


def test_limit_takes_so_many_of_each_class_of_a_list(tmp_path: Path) -> None:
    flat_list(tmp_path, "train", [0, 1, 0, 1, 0, 1, 0])
    images = opened(tmp_path, "train", 2, train="train.txt", limit=2)
    assert [images.name(index) for index in range(len(images))] == [
        *("train_0.png", "train_1.png"),
        *("train_5.png", "train_6.png"),
    ]
