"""`python -m datasets.init`: what is written for a folder, and what it says where it stops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pictures

from datasets.check import main as check
from datasets.init.__main__ import main
from rsseg.common.config import validate
from rsseg.common.yaml_files import read_yaml
from rsseg.doctor.configuration import read_run
from rsseg.segmentation.config import SegmentationConfig

SIZE = (40, 56)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pictures.fromarray(pixels).save(path)


def photo(path: Path, seed: int = 0) -> None:
    save(path, np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8))


def labelled(root: Path, *values: int, count: int = 4) -> Path:
    for index in range(count):
        photo(root / f"img/{index}.jpg", index)
        save(root / f"gt/{index}.png", np.resize(np.array(values, dtype=np.uint8), SIZE))
    return root


def test_proven_folder_becomes_a_configuration_that_is_complete_and_passes_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = labelled(tmp_path / "set", 0, 1, 2, 255), tmp_path / "my.yaml"
    assert main([str(root), "--out", str(out), "--classes", "3"]) == 0
    assert "QUESTION" not in out.read_text(encoding="utf-8")
    config = validate(SegmentationConfig, read_yaml(out), "my.yaml")
    assert (config.model.classes, str(config.data.labels)) == (3, "{offset: 0, void: [255]}")
    assert config.data.test_share == 0.2
    with Pictures.open(tmp_path / "my.png") as sheet:
        assert sheet.width == 1600
    capsys.readouterr()
    # Four samples leave none for a fifth: the share is the user's to choose.
    assert check([str(out), "--set", "data.test_share=0.5"]) == 0
    assert "no faults" in capsys.readouterr().out


def test_doubt_is_a_question_that_stops_the_training_until_it_is_answered(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = labelled(tmp_path / "set", 0, 1, 2, 3), tmp_path / "my.yaml"
    assert main([str(root), "--out", str(out)]) == 0
    assert "2 questions" in capsys.readouterr().out
    text = out.read_text(encoding="utf-8")
    for line in (
        "# labels: {offset: 0}    # 4 classes: classes 0..3, no void",
        "# labels: {offset: 0, void: [3]}    # 3 classes: classes 0..2, void 3",
        "# labels: {offset: 1, void: [0]}    # 3 classes: classes 1..3, void 0",
    ):
        assert line in text
    assert check([str(out)]) == 1
    numbers = [n for n, line in enumerate(text.splitlines(), 1) if "QUESTION" in line]
    errors = capsys.readouterr().err
    assert "model.classes" in errors
    assert f"my.yaml: answer the questions marked # QUESTION in lines {numbers[0]}, " in errors
    share = ["--set", "data.test_share=0.5"]
    assert check([str(out), *share, "model.classes=3"]) == 1
    assert "does not prove what they mean" in capsys.readouterr().out
    out.write_text(text.replace("# labels: {offset: 0}", "labels: {offset: 0}"), encoding="utf-8")
    assert check([str(out), *share, "model.classes=4"]) == 0


def test_class_names_beside_the_images_decide_the_number_of_classes(tmp_path: Path) -> None:
    root, out = labelled(tmp_path / "set", 0, 1, 255), tmp_path / "my.yaml"
    (root / "classes.txt").write_text("wall\nfloor\nlamp\n", encoding="utf-8")
    assert main([str(root), "--out", str(out)]) == 0
    values = read_yaml(out)
    assert (values["model"]["classes"], values["data"]["names"]) == (3, "classes.txt")


def test_class_folders_become_the_configuration_of_a_classifier(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "val"):
        for name in ("ant", "bee", "cat"):
            for index in range(3):
                photo(tmp_path / "set" / split / name / f"{index}.jpg", index)
    out = tmp_path / "my.yaml"
    assert main([str(tmp_path / "set"), "--out", str(out)]) == 0
    script, config = read_run(out, [])
    assert (script, config.model.classes, config.data.root) == (
        "train_cls.py",
        3,
        str(tmp_path / "set"),
    )
    read_run(out, ["epochs=1"])  # A first try may be as short as that.
    assert check([str(out), "--sheet", str(tmp_path / "sheet.png")]) == 0
    with Pictures.open(tmp_path / "sheet.png") as sheet:
        assert sheet.height > 6 * 160  # A row for each class of both splits.
    capsys.readouterr()
    assert check([str(out)]) == 0
    assert "0 ant" in (text := capsys.readouterr().out)
    assert text.count("no faults") == 2
    (tmp_path / "set/val/ant/0.jpg").write_bytes(b"no picture")
    assert check([str(out)]) == 1
    assert "0.jpg: unreadable image" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "no such folder"),
        (lambda root: root.mkdir(), "no label maps"),
        (lambda root: photo(root / "a.jpg"), r"no label maps .*1 in \./ \(such as a.jpg\)"),
        (lambda root: labelled(root, 0, 1).joinpath("img").rename(root / "x"), None),
    ],
)
def test_folder_that_is_not_understood_is_described(
    tmp_path: Path,
    make: object,
    message: str | None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make(tmp_path / "set")  # type: ignore[operator]
    status = main([str(tmp_path / "set"), "--out", str(tmp_path / "my.yaml")])
    assert status == (0 if message is None else 1)
    if message is not None:
        assert not (tmp_path / "my.yaml").exists()
        errors = capsys.readouterr().err
        assert all(word in errors for word in message.replace("\\", "").split(" .*"))


def test_nothing_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = labelled(tmp_path / "set", 0, 1, 255)
    for name in ("my.yaml", "my.png"):
        (tmp_path / name).write_text("mine", encoding="utf-8")
        assert main([str(root), "--out", str(tmp_path / "my.yaml")]) == 1
        assert f"{name} exists" in capsys.readouterr().err
        assert (tmp_path / name).read_text(encoding="utf-8") == "mine"
        (tmp_path / name).unlink()


def test_masks_of_0_and_255_are_offered_as_two_classes_first(tmp_path: Path) -> None:
    root, out = labelled(tmp_path / "set", 0, 255), tmp_path / "my.yaml"
    assert main([str(root), "--out", str(out)]) == 0
    text = out.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("  # labels: ")]
    assert lines[0].startswith("  # labels: {binary: true}    # 2 classes: ")
    assert "void: [0, 255]" not in text


def test_jpeg_among_the_label_maps_is_named_where_they_are_described_and_where_they_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, out = labelled(tmp_path / "set", 0, 1, 2, 255, count=12), tmp_path / "my.yaml"
    (root / "gt/3.png").unlink()
    save(root / "gt/3.jpg", np.zeros(SIZE, dtype=np.uint8))
    assert main([str(root), "--out", str(out), "--classes", "3"]) == 0
    text = out.read_text(encoding="utf-8")
    assert "# refused as label maps: gt/3.jpg; label maps are PNG, as JPEG changes" in text
    out.write_text(text.replace("unlabelled: skip", "unlabelled: refuse"), encoding="utf-8")
    capsys.readouterr()
    assert check([str(out)]) == 1
    assert "gt/3.jpg: label maps are PNG, as JPEG changes" in capsys.readouterr().out


def test_folder_of_neither_task_is_one_sentence_and_a_line_for_each_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "set"
    root.mkdir()
    (root / "readme.txt").write_text("x", encoding="utf-8")
    assert main([str(root), "--out", str(tmp_path / "my.yaml")]) == 1
    first, *reasons = capsys.readouterr().err.splitlines()
    sentence = "neither images with label maps nor images with a class each"
    assert first == f"error: {root}: {sentence}"
    for word in ("no label maps", "class folders: ", "lists: none", "readme.txt", "parquet: "):
        assert sum(word in line for line in reasons) == 1
    assert all(line.startswith("  ") for line in reasons)
