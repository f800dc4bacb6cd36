"""Splits of many folder trees: exactly the right files are read, none twice; else a question."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image as Pictures

from datasets.init.__main__ import main
from datasets.init.layout import find_layout
from datasets.init.splits import split_word
from rsseg.segmentation.pairs import SplitConfig, find_pairs

IMAGES, LABELS = ("i/{}", "{}/i"), ("l/{}", "{}/l")


def write_tree(root: Path, folders: Sequence[str], image: str, label: str, each: int = 3) -> None:
    """Write images and label maps into each folder; names repeat from folder to folder."""
    rng = np.random.default_rng(0)
    for folder in folders:
        for index in range(each):
            for place, kind in ((image, "jpg"), (label, "png")):
                path = root / place.format(folder) / f"{index:03d}.{kind}"
                path.parent.mkdir(parents=True, exist_ok=True)
                size, most = ((24, 32, 3), 256) if kind == "jpg" else ((24, 32), 3)
                Pictures.fromarray(rng.integers(0, most, size, dtype=np.uint8)).save(path)


def files_of(root: Path, place: str, folders: Sequence[str], kind: str) -> set[Path]:
    return {p for f in folders for p in (root / place.format(f)).glob(f"*.{kind}")}


def read(root: Path, split: SplitConfig) -> tuple[set[Path], set[Path]]:
    pairs, _ = find_pairs(root, split, skip=True)
    return {pair.image for pair in pairs}, {pair.label for pair in pairs}


# Folders, those of the training, those of the test; None where that has to be asked.
TREES = [
    (["train", "val"], ["train"], ["val"]),
    (["train", "val", "test"], ["train"], ["val"]),
    (["train", "test"], ["train"], ["test"]),
    (["training", "validation"], ["training"], ["validation"]),
    (["train2017", "val2017"], ["train2017"], ["val2017"]),
    (["train", "train_extra", "val", "test"], ["train"], ["val"]),
    (["train", "trainval", "val"], ["train"], ["val"]),
    (["train", "val", "contest"], ["train"], ["val"]),
    (["train", "val", "unlabelled"], ["train"], ["val"]),
    (["train1", "train2", "val"], ["train1", "train2"], ["val"]),
    (["train", "test1", "test2"], ["train"], ["test1", "test2"]),
    (["train/ulm", "train/bonn", "val/jena"], ["train/ulm", "train/bonn"], ["val/jena"]),
    (["a/train", "b/train", "a/val", "b/val"], ["a/train", "b/train"], ["a/val", "b/val"]),
    (["a/train", "b/train", "b/val"], ["a/train", "b/train"], ["b/val"]),
    (["train", "x/y/train", "val"], ["train", "x/y/train"], ["val"]),
    (["train", "contest"], ["train"], None),
    (["train", "validation_a", "validation_b"], ["train"], None),
    (["trainval", "val"], None, ["val"]),
    (["train_a", "train_b", "test"], None, ["test"]),
    (["train0", "val0", "train1", "val1"], None, None),
    (["train_extra", "validation_a"], None, None),
]


@pytest.mark.parametrize(("image", "label"), list(zip(IMAGES, LABELS, strict=True)))
@pytest.mark.parametrize("tree", TREES, ids=["-".join(tree[0]) for tree in TREES])
def test_each_split_has_exactly_its_files_or_is_asked(
    tmp_path: Path,
    tree: tuple[list[str], list[str] | None, list[str] | None],
    image: str,
    label: str,
) -> None:
    folders, train, test = tree
    write_tree(tmp_path, folders, image, label)
    layout = find_layout(tmp_path)
    for split, expected in ((layout.train, train), (layout.test, test)):
        if expected is None:
            assert split is None
            continue
        if split is None:  # Folders of other depths have no pattern of their own: that is asked.
            assert layout.question
            continue
        images, labels = read(tmp_path, split)
        assert images == files_of(tmp_path, image, expected, "jpg")
        assert labels == files_of(tmp_path, label, expected, "png")
    assert (layout.question is not None) == (layout.train is None or layout.test is None)
    known = [read(tmp_path, split) for split in (layout.train, layout.test) if split]
    if len(known) == 2:
        assert not known[0][0] & known[1][0]
        left_out = {image.format(f) for f in folders if f not in [*(train or []), *(test or [])]}
        assert all(any(name in note for note in layout.notes) for name in left_out)
    # Every folder that is not settled is in a line that can be chosen.
    offered = {path for offer in layout.offers for path in read(tmp_path, offer.place)[0]}
    settled = {path for images, _ in known for path in images}
    if layout.question:
        assert offered | settled == files_of(tmp_path, image, folders, "jpg")


def test_random_trees_never_share_a_file_between_the_splits(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    words = ["train", "val", "test", "train_extra", "trainval", "contest", "val_b", "x", "train2"]
    for number in range(40):
        root = tmp_path / str(number)
        names = {"/".join(rng.choice(words, rng.integers(1, 3))) for _ in range(rng.integers(1, 5))}
        place = int(rng.integers(2))
        write_tree(root, sorted(names), IMAGES[place], LABELS[place], each=2)
        try:
            layout = find_layout(root)
        except ValueError:
            continue
        if layout.train and layout.test:
            train, test = read(root, layout.train), read(root, layout.test)
            assert not train[0] & test[0]
            assert not train[1] & test[1]
        else:
            assert layout.question or layout.test is None


def test_folders_that_are_a_question_stop_the_run_with_the_lines_to_choose(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tree(tmp_path / "set", ["train", "contest"], "{}/images", "{}/masks")
    out = tmp_path / "my.yaml"
    assert main([str(tmp_path / "set"), "--out", str(out), "--classes", "3"]) == 0
    assert "2 questions are marked" in capsys.readouterr().out
    text = out.read_text(encoding="utf-8")
    assert "# test: {images: contest/images, labels: contest/masks}" in text
    assert "test" not in yaml.safe_load(text)["data"]


def test_label_maps_in_folders_of_splits_divide_images_in_one_folder(tmp_path: Path) -> None:
    write_tree(tmp_path, ["all"], "images", "all", each=6)
    for index in range(6):
        split = "val" if index > 3 else "train"
        (tmp_path / "masks" / split).mkdir(parents=True, exist_ok=True)
        name = f"{index:03d}.png"
        (tmp_path / "all" / name).rename(tmp_path / "masks" / split / name)
    (tmp_path / "all").rmdir()
    layout = find_layout(tmp_path)
    assert layout.train
    assert layout.test
    assert {path.stem for path in read(tmp_path, layout.train)[0]} == {"000", "001", "002", "003"}
    assert {path.stem for path in read(tmp_path, layout.test)[0]} == {"004", "005"}


def test_lists_that_share_samples_are_refused(tmp_path: Path) -> None:
    write_tree(tmp_path, ["."], "images", "masks")
    (tmp_path / "train.txt").write_text("000\n001\n", encoding="utf-8")
    (tmp_path / "val.txt").write_text("001\n002\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"train\.txt and val\.txt share 2 files"):
        find_layout(tmp_path)


@pytest.mark.parametrize(
    ("name", "split", "doubt"),
    [
        *(("train", "train", 0), ("val2017", "test", 0), ("images_training", "train", 0)),
        *(("trainannot", "train", 0), ("train/ulm", "train", 0), ("TestImages", "test", 0)),
        *(("train1", "train", 1), ("test_02", "test", 1)),
        *(("train_extra", "train", 2), ("trainval", "train", 2), ("validation_a", "test", 2)),
        *(("train/val", "train", 2), ("contest", None, 0), ("values", None, 0)),
    ],
)
def test_word_of_a_name_is_its_split_and_how_sure_that_is(
    name: str, split: str | None, doubt: int
) -> None:
    word = split_word(name)
    assert (word and word.split, word.doubt if word else 0) == (split, doubt)
