"""The command line: `rsseg predict` from arguments to files, and one line for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pictures
from torch import nn

from rsseg.cli import main as cli
from rsseg.cli import predict as cli_predict
from rsseg.images.preprocessing import Preprocessing
from rsseg.runtime import executors, predictor
from rsseg.runtime.description import Description, name_of
from rsseg.runtime.executors import TorchExecutor
from rsseg.runtime.opening import Opened
from rsseg.runtime.predict import segment, video
from rsseg.switchable import unseen
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.resolutions import Resolutions

CLASSES = ("wall", "floor", "lamp")


def opened(path: Path, executor: str | None = None, **options: Any) -> Opened:
    """Stand in for opening a file: its name seeds the weights."""
    if "gone" in path.name:
        raise FileNotFoundError(f"there is no file {path}")
    torch.manual_seed(len(path.name))
    plain = nn.Sequential(nn.Conv2d(3, 4, 4, stride=4), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 1))
    net = SwitchableNet(plain, [32, 16])
    description = Description(
        task="classification" if "classifier" in path.name else "segmentation",
        name=name_of(path),
        classes=("a", "b", "c") if "other" in path.name else CLASSES,
        resolutions=Resolutions((32, 16)),
        preprocessing=Preprocessing(),
    )
    return TorchExecutor(net, device=options["device"]), description


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two images, `a` and `b`, and their labels from 1 on with void 0."""
    monkeypatch.setattr(predictor, "open_executor", opened)
    for place in ("images", "labels"):
        (tmp_path / place).mkdir()
    rng = np.random.default_rng(0)
    for name in "ab":
        image = rng.integers(0, 256, (12, 20, 3), dtype=np.uint8)
        Pictures.fromarray(image).save(tmp_path / "images" / f"{name}.bmp")
        labels = rng.integers(0, 4, (12, 20), dtype=np.uint8)
        Pictures.fromarray(labels).save(tmp_path / "labels" / f"{name}.png")
    return tmp_path


def predict(folder: Path, *options: object, checkpoint: str = "rs-net.pt") -> int:
    arguments = ["predict", checkpoint, folder / "images", "--out", folder / "out", *options]
    return cli.main([str(argument) for argument in arguments])


def test_predict_writes_what_it_names(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict(folder) == 0
    shown = capsys.readouterr().out
    assert [line.split()[:3] for line in shown.splitlines()[1:5]] == [
        [f"{name}.bmp", "rs-net", resolution] for name in "ab" for resolution in ("32", "16")
    ]
    for place in ("labels", "overlays", "side_by_side", "fig8.png"):
        assert str(folder / "out" / place) in shown
    with Pictures.open(folder / "out" / "labels" / "rs-net_16" / "b.png") as labels:
        assert labels.size == (20, 12)
        assert np.array(labels).max() < len(CLASSES)


def test_compare_labels_and_resolutions_reach_the_table(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    convention = ("--label-offset", 1, "--void-value", 0)
    labels = ("--labels", folder / "labels", *convention)
    compare = ("--compare", "runs/i/last.pt", "--name", "RS", "--resolutions", 32, 24)
    assert predict(folder, *labels, *compare, "--unseen", "nearest") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("pixel accuracy")
    assert [line.split()[1:3] for line in lines[1:5]] == [
        *[["RS", "32"], ["RS", "24"]],
        *[["i", "32"], ["i", "24"]],
    ]
    assert all(line.endswith(" %") for line in lines[1:9])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--labels", "nowhere"], "nowhere does not exist"),
        (
            ["--labels", "labels"],
            "hold the values 0..3 (labels/a.png: 0..3; labels/b.png: 0..3), which does not prove",
        ),
        (
            ["--labels", "labels", "--label-offset", "0"],
            "beside classes 0..2, void 255 (all values: 0..3); state in data.labels (--label-read",
        ),
        (
            ["--labels", "labels", "--label-reading", "{offset: 0, void: [0]}"],
            "void 0 is also the value of a class",
        ),
        (
            ["--labels", "labels", "--label-reading", "camvit"],
            "unknown preset 'camvit'; did you mean 'camvid'?",
        ),
        (["--compare", "other.pt"], "know other classes"),
        (["--compare", "gone.pt"], "there is no file gone.pt"),
        (
            ["--compare", "classifier.pt"],
            "'classifier' is a network for classification; label maps",
        ),
        (["--top", "3"], "rs-net.pt is a segmenter, which takes no --top; leave it out"),
        (["--resolutions", "16", "32"], "from large to small"),
        (["--resolutions", "3"], "cannot predict at resolution 3"),
        (["--device", "toaster"], "device 'toaster' cannot be used here"),
        (["nothing.jpg"], "nothing.jpg does not exist"),
    ],
)
def test_what_is_wrong_is_one_line_and_status_2(
    folder: Path,
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(folder)
    images = [options.pop()] if len(options) == 1 else ["images"]
    assert cli.main(["predict", "rs-net.pt", *images, "--out", "out", *options]) == 2
    complaints = [line for line in capsys.readouterr().err.splitlines() if "rsseg" in line]
    assert len(complaints) == 1
    assert complaints[0].startswith("rsseg predict: ")
    assert message in complaints[0]


def test_segmenter_without_a_folder_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["predict", "rs-net.pt", str(folder / "images")]) == 2
    assert "rs-net.pt is a segmenter, which writes files; give --out DIR" in capsys.readouterr().err


def test_second_run_refuses_and_names_the_remedy(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(folder) == 0
    assert predict(folder) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert predict(folder, "--overwrite") == 0


def test_interruption_is_status_130(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(segment, "predict_files", interrupted)
    assert predict(folder) == 130


def test_device_is_chosen_where_none_is_given(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = []

    def choose(name: str) -> torch.device:
        names.append(name)
        return torch.device("cpu")

    monkeypatch.setattr(executors, "choose_device", choose)
    assert predict(folder) == 0
    assert predict(folder, "--device", "cuda", "--overwrite") == 0
    assert names == ["auto", "cuda"]


def test_executor_threads_and_rule_reach_the_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    def opening(path: Path, executor: str | None = None, **options: Any) -> Opened:
        given.append((path.name, executor, options))
        return opened(path, executor, **options)

    monkeypatch.setattr(predictor, "open_executor", opening)
    (folder / "b.onnx").write_bytes(b"")
    arguments = ("--executor", "torch", "--threads", 2, "--unseen", "nearest", "--device", "cpu")
    assert predict(folder, *arguments, "--allow-builder", "--compare", folder / "b.onnx") == 0
    options = {"threads": 2, "device": "cpu", "unseen": "nearest", "allow_builder": True}
    # The second file is of another kind, so its own executor opens it, where that computes.
    other = {**options, "device": "auto"}
    assert given == [("rs-net.pt", "torch", options), ("b.onnx", None, other)]


def test_constants_of_the_help_are_those_of_the_library() -> None:
    assert (cli_predict.RULES, cli_predict.FPS) == (unseen.RULES, video.FPS)


def write_results(path: Path, **metrics: float) -> Path:
    """Write a results file of two resolutions; the second has half of each metric."""
    halves = {name: value / 2 for name, value in metrics.items()}
    results = {"metrics": {"32": metrics, "16": halves}, "alpha": {"32": 0.75, "16": 0.25}}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results | {"macs": {"32": 2_500_000_000}}), encoding="utf-8")
    return path


def test_compare_lays_out_every_results_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = {"pixel_accuracy": 0.5, "mean_accuracy": 0.25, "mean_iou": 0.125}
    first = write_results(tmp_path / "rs" / "results.json", **metrics)
    second = write_results(tmp_path / "i" / "lower.json", **metrics, kappa=1)
    assert cli.main(["compare", str(first), str(second)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "pixel accuracy / mean accuracy / mean iou, %",
        "run                  32             16        alpha   GMACs",
        "rs       50.0/25.0/12.5  25.0/12.5/6.2  0.750/0.250  2.50/-",
        "i lower  50.0/25.0/12.5  25.0/12.5/6.2  0.750/0.250  2.50/-",
    ]
    assert cli.main(["compare", str(first.parent), str(second)]) == 0
    assert capsys.readouterr().out.splitlines() == lines
    assert cli.main(["compare", str(second), "--metrics", "kappa"]) == 0
    caption, head, row = capsys.readouterr().out.splitlines()
    assert (caption, head.split()[:3]) == ("kappa, %", ["run", "32", "16"])
    assert row.split()[:4] == ["i", "lower", "100.0", "50.0"]


def test_compare_has_a_column_for_every_resolution_of_any_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, sides in (("small", ["96", "96_2", "64"]), ("large", ["224", "96", "ensemble"])):
        (tmp_path / name).mkdir()
        metrics = {side: {"top1": 0.123456, "top5": 0.5} for side in sides}
        results = {"metrics": metrics, "alpha": None, "macs": {}}
        (tmp_path / name / "results.json").write_text(json.dumps(results))
    folders = [str(tmp_path / name) for name in ("small", "large")]
    assert cli.main(["compare", *folders]) == 0
    caption, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert caption == ["top1", "/", "top5,", "%"]
    cell = "12.3/50.0"
    assert rows == [
        ["run", "224", "96", "96_2", "64", "ensemble"],
        ["small", "-", cell, cell, cell, "-"],
        ["large", cell, cell, "-", "-", cell],
    ]
    assert cli.main(["compare", *folders, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [run["name"] for run in told] == ["small", "large"]
    assert told[1]["metrics"]["ensemble"] == {"top1": 0.123456, "top5": 0.5}


def test_runs_of_one_name_are_shown_with_their_paths(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in "ab":
        (tmp_path / folder).mkdir()
    files = [write_results(tmp_path / a / "rs" / "results.json", top1=1, top5=1) for a in "ab"]
    assert cli.main(["compare", *map(str, files)]) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert [row.split()[0] for row in rows] == list(map(str, files))


def test_compare_joins_results_of_one_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(name: str, rows: dict[str, float]) -> str:
        (tmp_path / name).mkdir()
        metrics = {side: {"top1": value, "top5": 1.0} for side, value in rows.items()}
        (tmp_path / name / "results.json").write_text(json.dumps({"metrics": metrics}))
        return str(tmp_path / name)

    seeds = [run(f"s{n}", {"64": 0.5 + n / 10, "32": 0.25}) for n in range(3)]
    inets = [run("i64", {"64": 0.7}), run("i32", {"32": 0.6})]
    names = ["--names", "RS", "RS", "RS", "I", "I", "--metrics", "top1"]
    assert cli.main(["compare", *seeds, *inets, *names]) == 0
    assert [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()] == [
        "name runs metric 64 32",
        "RS 3 top1 60.0 (50.0 to 70.0) 25.0 (25.0 to 25.0)",
        "I 2 top1 70.0 60.0",
    ]
    assert cli.main(["compare", *seeds, "--names", "RS"]) == 2
    assert "3 results, but 1 name" in capsys.readouterr().err
    assert cli.main(["compare", *seeds, "--names", "RS", "--json"]) == 2
    assert "leave out --names" in capsys.readouterr().err


def test_compare_shows_the_metrics_of_the_task(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shares = {"top1": 0.5, "top5": 0.75, "images": 200.0}
    classifier = write_results(tmp_path / "c" / "results.json", **shares)
    assert cli.main(["compare", str(classifier)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "top1 / top5, %"
    assert lines[1].split() == ["run", "32", "16", "alpha", "GMACs"]
    assert lines[2].split()[:2] == ["c", "50.0/75.0"]


def test_compare_refuses_results_of_different_tasks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = {"pixel_accuracy": 0.5, "mean_accuracy": 0.25, "mean_iou": 0.125, "top1": 0.5}
    segmenter = write_results(tmp_path / "s" / "results.json", **metrics)
    classifier = write_results(tmp_path / "c" / "results.json", top1=0.5, top5=0.75)
    assert cli.main(["compare", str(segmenter), str(classifier)]) == 2
    complaint = capsys.readouterr().err
    assert "results of different tasks" in complaint
    assert f"{classifier} holds top1 top5" in complaint
    # What both hold can be compared by name.
    assert cli.main(["compare", str(segmenter), str(classifier), "--metrics", "top1"]) == 0


@pytest.mark.parametrize("content", [None, "no JSON", "[]", '{"metrics": {"32": {"iou": 1}}}'])
def test_compare_names_the_file_that_holds_no_such_results(
    tmp_path: Path, content: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.json"
    if content:
        path.write_text(content, encoding="utf-8")
    assert cli.main(["compare", str(path), "--metrics", "mean_iou"]) == 2
    assert f"rsseg compare: cannot read {path} as results" in capsys.readouterr().err


def test_compared_networks_get_names_that_tell_them_apart() -> None:
    for names, paths, expected in (
        (["rs", "i-352"], ["x/rs/last.pt", "x/i-352.pt"], ["rs", "i-352"]),
        (["rs", "rs"], ["x/rs/last.pt", "x/rs/best.pt"], ["rs last", "rs best"]),
        (["rs", "rs"], ["x/rs/last.pt", "x/rs/last.onnx"], ["last.pt", "last.onnx"]),
        (["rs", "rs"], ["x/rs/last.pt", "x/rs/last.pt"], ["rs", "rs"]),
    ):
        assert cli_predict._distinct_names(names, [Path(path) for path in paths]) == expected


def test_missing_arguments_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as status:
        cli.main(["predict", "rs-net.pt"])
    assert status.value.code == 2
    assert "IMAGE" in capsys.readouterr().err


def test_misspelt_verb_is_met_with_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["predit", "x.pt"])
    assert "unknown verb 'predit'; did you mean 'predict'?" in capsys.readouterr().err
