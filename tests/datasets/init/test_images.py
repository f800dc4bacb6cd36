"""Images with a class each: recognised, measured, shown; what proves nothing is asked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pictures

from benchmarks.layouts.images import CLASSES, draw_images, write_images, write_shards, write_tars
from datasets.check import main as check
from datasets.imagenet.huggingface import find_theirs
from datasets.init.__main__ import main
from datasets.init.archives import braces, find_shards, find_tars
from datasets.init.numbers import classes_of_numbers
from datasets.init.recognise import find_image_layout, recognise
from rsseg.common.yaml_files import read_yaml
from rsseg.doctor.configuration import read_run
from tests.datasets.init.test_main import SIZE, labelled, photo, save

NUMBERS = {"place": "images/{stem}.png", "line": "{place},{number}"}
LISTS = {"train": "train.csv", "test": "val.csv"}


def write(root: Path, **options: Any) -> Path:
    write_images(root, draw_images(), **options)
    return root


def configuration(root: Path, *options: str) -> str:
    out = root.parent / "my.yaml"
    assert main([str(root), "--out", str(out), *options]) == 0
    return out.read_text(encoding="utf-8")


def flat(root: Path, seed: int, *values: int) -> None:
    """Write an image of few colours."""
    rng = np.random.default_rng(seed)
    save(root, rng.choice(np.array(values, dtype=np.uint8), (*SIZE, 3)))


def test_class_folders_without_a_split_are_measured_and_keep_a_share_for_the_test(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write(tmp_path / "set", place="{name}/{stem}.png")
    (root / "ant/broken.jpg").write_bytes(b"no picture")
    text = configuration(root)
    script, config = read_run(tmp_path / "my.yaml", [])
    data: Any = config.data
    assert (script, config.model.classes, data.train, data.test_share) == (
        *("train_cls.py", 3, "."),
        0.2,
    )
    counts = dict(re.findall(r"(ant|bee|cat) (\d+ \+ \d+)", text))
    assert {n: sum(map(int, c.split(" + "))) for n, c in counts.items()} == {
        **{"ant": 9, "bee": 8},
        "cat": 8,
    }
    assert "# Sizes of images: 40x32 (24)" in text
    assert "# Unreadable: 1 of 25 images" in text
    assert "broken.jpg: unreadable image" in text
    colour = float(re.findall(r"Mean colour: ([0-9.]+)", text)[0])
    assert colour == pytest.approx(
        np.mean([s.image[..., 0] for s in draw_images()]) / 255, abs=0.01
    )
    (root / "ant/broken.jpg").unlink()
    capsys.readouterr()
    assert check([str(tmp_path / "my.yaml")]) == 0
    assert "test_share 0.2" in capsys.readouterr().out


def test_contact_sheet_shows_images_of_each_class(tmp_path: Path) -> None:
    colours = {"ant": (250, 0, 0), "bee": (0, 250, 0), "cat": (0, 0, 250)}
    for name, colour in colours.items():
        for split in ("train", "val"):
            for index in range(2):
                pixels = np.broadcast_to(np.array(colour, dtype=np.uint8), (20, 20, 3))
                path = tmp_path / "set" / split / name / f"{index}.bmp"
                save(path, np.ascontiguousarray(pixels))
    configuration(tmp_path / "set")
    with Pictures.open(tmp_path / "my.png") as picture:
        sheet = np.asarray(picture)
    rows = [
        int(np.flatnonzero((sheet == colour).all(axis=(-1)).any(axis=1))[0])
        for colour in colours.values()
    ]
    assert rows == sorted(rows)
    assert len(set(rows)) == 3


@pytest.mark.parametrize("name", ["my set #1: x", "a: b", "- x", "été"])
def test_folder_of_any_name_is_read_back(tmp_path: Path, name: str) -> None:
    root = write(tmp_path / name)
    configuration(root)
    assert read_yaml(tmp_path / "my.yaml")["data"]["root"] == str(root)
    assert check([str(tmp_path / "my.yaml")]) == 0


def test_numbers_without_a_zero_are_a_question_that_stops_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = configuration(write(tmp_path / "set", **NUMBERS, lists=LISTS, first=1))
    assert "# label_offset: 1    # 3 classes, counted from 1" in text
    assert "# label_offset: 0    # 4 classes, counted from 0" in text
    out = tmp_path / "my.yaml"
    assert check([str(out)]) == 1
    assert "model.classes" in capsys.readouterr().err
    out.write_text(text.replace("# label_offset: 1 ", "label_offset: 1 "), encoding="utf-8")
    assert check([str(out), "--set", "model.classes=3"]) == 0


@pytest.mark.parametrize(
    ("numbers", "count", "expected"),
    [
        ([0, 1, 2], None, (3, False, (0,))),
        ([0, 1], 3, (3, True, (0,))),
        ([1, 2, 3], None, (3, False, (1, 0))),
        ([1, 2, 3], 3, (3, True, (1,))),
        ([1, 2], 3, (3, True, (0, 1))),
    ],
)
def test_numbers_prove_what_they_count_from_by_a_0_or_a_k(
    numbers: list[int], count: int | None, expected: tuple[int, bool, tuple[int, ...]]
) -> None:
    classes = classes_of_numbers(numbers, count)
    assert (classes.count, classes.is_known, classes.offsets) == expected


def test_names_of_the_classes_tell_how_many_numbers_there_are(tmp_path: Path) -> None:
    root = write(tmp_path / "set", **NUMBERS, lists=LISTS, first=1)
    (root / "classes.txt").write_text("ant\nbee\ncat\n", encoding="utf-8")
    assert "QUESTION" not in configuration(root)
    assert check([str(tmp_path / "my.yaml")]) == 0


def test_list_whose_paths_count_from_the_folder_of_the_images_is_read(tmp_path: Path) -> None:
    root = write(tmp_path / "set", place="train/{stem}.png")
    lines = ["path,label", *(f"{s.stem}.png,{CLASSES[s.label]}" for s in draw_images())]
    (root / "train.csv").write_text("\n".join(lines), encoding="utf-8")
    configuration(root)
    data = read_yaml(tmp_path / "my.yaml")["data"]
    assert (data["root"], data["train"]) == (str(root / "train"), "../train.csv")
    assert check([str(tmp_path / "my.yaml")]) == 0


def test_lists_that_share_images_are_refused(tmp_path: Path) -> None:
    root = write(tmp_path / "set", place="images/{stem}.png", lists=LISTS)
    with (root / "val.csv").open("a", encoding="utf-8") as file:
        file.write("images/000.png,ant\n")
    with pytest.raises(ValueError, match=r"train\.csv and val\.csv share 1 image \(images/000"):
        find_image_layout(root, None)


def test_folders_of_doubtful_splits_are_left_out_or_asked_about(tmp_path: Path) -> None:
    samples = draw_images()
    write_images(tmp_path / "a", samples)
    write_images(tmp_path / "a", samples, place="train_extra/{name}/x{stem}.png")
    layout = find_image_layout(tmp_path / "a", None)
    assert (layout.data, layout.question) == ({"train": "train", "val": "val"}, None)
    assert "train_extra" in " ".join(layout.notes)
    write_images(tmp_path / "b", samples, place="contest/{name}/{stem}.png")
    write_images(tmp_path / "b", samples, place="train/{name}/{stem}.png")
    layout = find_image_layout(tmp_path / "b", None)
    assert layout.question is not None
    assert {"val": "contest"} in layout.offers
    configuration(tmp_path / "b")
    assert check([str(tmp_path / "my.yaml")]) == 1


def test_tar_files_and_shards_are_told_apart(tmp_path: Path) -> None:
    write_tars(tmp_path / "tars", draw_images())
    write_shards(tmp_path / "shards", draw_images(), first=1)
    assert find_tars(tmp_path / "tars", None).data == {"train": "train.tar", "val": "val.tar"}
    with pytest.raises(ValueError, match="no tar files with KEY"):
        find_shards(tmp_path / "tars", None)
    with pytest.raises(ValueError, match="there are none with images in class folders"):
        find_tars(tmp_path / "shards", None)
    layout = find_shards(tmp_path / "shards", None)
    assert layout.root == f"wds/{tmp_path / 'shards'}"
    assert layout.data == {"train": "train-{0..1}.tar", "val": "val-{0..1}.tar"}
    assert layout.classes.offsets == (1, 0)
    for file in (tmp_path / "shards").glob("val-*"):
        file.unlink()
    layout = find_shards(tmp_path / "shards", 3)
    assert layout.question is not None


def test_pattern_of_shards_is_what_the_library_expands() -> None:
    library = pytest.importorskip("braceexpand")
    for names in (["a-008", "a-009", "a-010"], ["a-1", "a-3"], ["x"], ["b-9", "b-10"]):
        files = [Path(f"{name}.tar") for name in names]
        assert sorted(library.braceexpand(braces(files))) == sorted(map(str, files))


@pytest.mark.skipif(find_theirs() is None, reason="needs Hugging Face's datasets")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("named", [True, False])
def test_parquet_folder_becomes_a_configuration(tmp_path: Path, named: bool) -> None:
    from tests.datasets.imagenet.test_huggingface import write_parquet

    write_parquet(tmp_path / "set", named=named, label="kind")
    text = configuration(tmp_path / "set")
    data = read_yaml(tmp_path / "my.yaml")["data"]
    assert data == {
        **{"root": f"hfds/{tmp_path / 'set'}", "train": "train", "val": "validation"},
        **{"image_key": "image", "label_key": "kind"},
    }
    assert ("QUESTION" in text) != named
    assert check([str(tmp_path / "my.yaml"), "--set", "model.classes=3"]) == 0


def test_folder_that_may_be_of_both_tasks_is_asked_about(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "contest"):
        for index in range(3):
            photo(tmp_path / "set" / split / "i" / f"{index}.jpg", index)
            flat(tmp_path / "set" / split / "l" / f"{index}.png", index, 0)
    out = tmp_path / "my.yaml"
    assert main([str(tmp_path / "set"), "--out", str(out)]) == 1
    assert "--task segmentation, or --task classification" in capsys.readouterr().err
    assert not out.exists()
    for task, script in (("segmentation", "train_seg.py"), ("classification", "train_cls.py")):
        out = tmp_path / f"{task}.yaml"
        assert main([str(tmp_path / "set"), "--out", str(out), "--task", task]) == 0
        assert f"python {script}" in out.read_text(encoding="utf-8")


def test_reason_why_label_maps_are_not_understood_is_shown_beside_the_classes(
    tmp_path: Path,
) -> None:
    for index in range(3):
        photo(tmp_path / f"cat/{index}.jpg", index)
        flat(tmp_path / f"dog/x{index}.png", index, 0, 200)
    with pytest.raises(ValueError, match=r"no label map is named as an image.*\n.*--task class"):
        recognise(tmp_path, None, None)
    assert recognise(tmp_path, "classification", None).text == "2 class folders without a split"


def test_images_of_few_colours_are_told_from_label_maps_by_name_or_by_colour(
    tmp_path: Path,
) -> None:
    for index in range(4):
        for root, image, label in (("a", "images", "labels"), ("b", "x", "y")):
            flat(tmp_path / root / image / f"{index}.png", index, 0, 90, 200)
            values = np.resize(np.array([0, 1, 2, 255], dtype=np.uint8), SIZE)
            save(tmp_path / root / label / f"{index}.png", values)
    for root, image, label in (("a", "images", "labels"), ("b", "x", "y")):
        layout = recognise(tmp_path / root, "segmentation", None)
        train: Any = layout.train  # type: ignore[union-attr]
        assert (train.images, train.labels) == (image, label)


def test_index_maps_are_taken_before_the_same_in_colour(tmp_path: Path) -> None:
    root = labelled(tmp_path / "set", 0, 1, 255)
    (root / "gt").rename(root / "index")
    for index in range(4):
        flat(root / f"color/{index}.png", index, 0, 128, 255)
    layout = recognise(root, None, 2)
    train: Any = layout.train  # type: ignore[union-attr]
    assert (train.images, train.labels) == ("img", "index")
    assert "4 in color/" in " ".join(layout.notes)


def test_label_maps_in_colour_may_begin_with_a_black_one(tmp_path: Path) -> None:
    root = labelled(tmp_path / "set", 0)
    black = np.zeros((*SIZE, 3), dtype=np.uint8)
    for index in range(4):
        pixels = black.copy()
        pixels[:20] = (0, 0, 0) if index == 0 else (128, 0, 0)
        save(root / f"gt/{index}.png", pixels)
    text = configuration(root, "--classes", "2")
    assert "labels: {colours: [[0, 0, 0], [128, 0, 0]]}" in text
    assert "QUESTION" not in text


def test_void_at_both_ends_is_among_the_answers_while_the_number_is_not_known(
    tmp_path: Path,
) -> None:
    root = labelled(tmp_path / "set", 0, 1, 2, 3, 4, 255)
    text = configuration(root)
    assert "# labels: {offset: 0, void: [255]}    # 5 classes" in text
    assert "# labels: {offset: 1, void: [0, 255]}    # 4 classes" in text
    assert read_yaml(tmp_path / "my.yaml")["model"]["classes"] is None
