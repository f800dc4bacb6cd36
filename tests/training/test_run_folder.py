"""The folder of a run: what is written into it, and that nothing is overwritten."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from rsseg.analysis.results import adaptation_table, results_table
from rsseg.common.config import load_config, plain
from rsseg.common.files import RunError, check_output, write_csv, write_whole
from rsseg.heads import head_of_metrics
from rsseg.training.config import RunConfig
from rsseg.training.resume import (
    MACHINE_KEYS,
    REMEDY_KEYS,
    check_same_run,
    default_folder,
    resumable,
)
from rsseg.training.run_folder import RunFolder
from tests.helpers.small_runs import small_config

RESULTS: dict[str, Any] = {
    "metrics": {
        "64": {"pixel_accuracy": 0.5, "mean_iou": 0.25},
        "32": {"pixel_accuracy": 0.375, "mean_iou": 0.125},
        "ensemble": {"pixel_accuracy": 1.0, "mean_iou": 0.3},
    },
    "alpha": {"64": 0.75, "32": 0.25},
    "macs": {"64": 2_000_000_000, "32": 500_000_000},
}


def begun(path: Path) -> RunFolder:
    """A run that has written a checkpoint."""
    folder = RunFolder.create(path, plain(small_config()))
    folder.last.touch()
    return folder


def test_configuration_of_a_folder_reads_back_as_the_same_run(tmp_path: Path) -> None:
    config = small_config(optim={"lr": 1e-5, "encoder_lr": None}, schedule={"kind": "poly"})
    RunFolder.create(tmp_path / "a" / "b", plain(config))
    assert load_config(RunConfig, tmp_path / "a" / "b" / "config.yaml") == config


def test_empty_folder_is_taken(tmp_path: Path) -> None:
    assert RunFolder.create(tmp_path, {"seed": 1}).last == tmp_path / "last.pt"
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == {"seed": 1}


def test_folder_that_holds_anything_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(RunError) as caught:
        RunFolder.create(tmp_path, {"seed": 1})
    assert str(caught.value) == (
        f"run folder {tmp_path} exists; continue that run with --resume {tmp_path}, or choose "
        "another folder with --run"
    )
    assert [file.name for file in tmp_path.iterdir()] == ["note.txt"]


def test_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(RunError, match=r"cannot make the run folder .*run: File exists"):
        RunFolder.create(tmp_path / "run", {})
    with pytest.raises(RunError, match=r"cannot make the run folder .*inner: Not a directory"):
        RunFolder.create(tmp_path / "run" / "inner", {})


def test_log_holds_one_json_value_in_each_line(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.log({"step": 1, "total": 0.5})
    folder.log({"step": 2, "total": 0.25})
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 1, "total": 0.5},
        {"step": 2, "total": 0.25},
    ]


def test_results_read_back_and_are_a_table_by_resolution(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_results({"metrics": {"8": {"mean_iou": 0.0}}})
    folder.write_results(RESULTS)
    assert folder.read_results() == RESULTS
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[1] == {"resolution": "32", "pixel_accuracy": "0.375", "mean_iou": "0.125"}
    assert [row["resolution"] for row in rows] == ["64", "32", "ensemble"]


def test_csv_has_every_key_as_a_column(tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", [{"a": 1}, {"b": "x,y"}])
    assert (tmp_path / "rows.csv").read_text().splitlines() == ["a,b", "1,", ',"x,y"']


@pytest.mark.parametrize(
    ("config", "folder"),
    [
        ("configs/nyudv2/rsnet.yaml", "runs/nyudv2/rsnet"),
        ("/home/me/configs/rooms/demo.yaml", "runs/rooms/demo"),
        ("configs/one.yaml", "runs/one"),
        ("/somewhere/else/mine.yaml", "runs/mine"),
    ],
)
def test_folder_of_a_run_is_named_after_its_configuration(config: str, folder: str) -> None:
    assert default_folder(Path(config)) == Path(folder)


def test_run_is_continued_with_the_settings_of_the_machine_changed(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run")
    overrides = ["data.root=/elsewhere", "device=cpu", "workers=0"]
    assert resumable(folder.path, overrides) == folder.path / "config.yaml"


@pytest.mark.parametrize("override", ["epochs=9", "optim.momentum=0", "data.limit=3", "data", "=1"])
def test_run_is_not_continued_as_another_run(tmp_path: Path, override: str) -> None:
    with pytest.raises(RunError, match="a run is continued as it was begun") as caught:
        resumable(begun(tmp_path / "run").path, ["workers=0", override])
    assert f"--set {override} would change it" in str(caught.value)
    allowed = ", ".join((*MACHINE_KEYS, *REMEDY_KEYS))
    assert f"Only {allowed} may be set" in str(caught.value)


def test_folder_that_is_no_run_is_not_continued(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone"):
        with pytest.raises(RunError, match=r"is not a run folder: it holds no config\.yaml"):
            resumable(path, [])


def test_run_without_a_checkpoint_says_how_to_start_it_again(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", {})
    with pytest.raises(RunError, match=r"holds no last\.pt.*remove the folder and start"):
        resumable(tmp_path / "run", [])


def test_place_of_a_file_is_checked_before_the_work(tmp_path: Path) -> None:
    check_output(tmp_path / "new.json")
    (tmp_path / "old.json").touch()
    with pytest.raises(ValueError, match=r"old\.json exists; choose another name$"):
        check_output(tmp_path / "old.json")
    with pytest.raises(ValueError, match=r"there is no folder .*gone for new\.json; make it first"):
        check_output(tmp_path / "gone" / "new.json")


def test_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.json", "first")
    write_whole(tmp_path / "a.json", "second")
    assert (tmp_path / "a.json").read_text() == "second"
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_full_disk_names_the_file(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for name in ("log.jsonl", ".results.part.json", ".rows.part.csv"):
        (tmp_path / name).symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"cannot write .*log\.jsonl: No space left on device"):
        folder.log({"step": 1})
    with pytest.raises(OSError, match=r"cannot write .*results\.json: No space left on device"):
        folder.write_results(RESULTS)
    with pytest.raises(OSError, match=r"cannot write .*rows\.csv: No space left on device"):
        write_csv(tmp_path / "rows.csv", [{"a": 1}])


@pytest.mark.parametrize("text", ["", '{"metrics": ', "3"])
def test_results_that_cannot_be_read_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(
        RunError, match=r"cannot read .*results\.json: .* with --evaluate .*last\.pt"
    ):
        RunFolder(tmp_path).read_results()


def test_table_shows_percent_shares_and_multiply_adds() -> None:
    assert results_table(RESULTS, ["pixel_accuracy", "mean_iou"]).splitlines() == [
        "resolution  pixel accuracy  mean iou  alpha  GMACs",
        "        64            50.0      25.0  0.750   2.00",
        "        32            37.5      12.5  0.250   0.50",
        "  ensemble           100.0      30.0",
    ]


def test_table_does_without_ensemble_and_multiply_adds() -> None:
    lines = results_table({"metrics": {"64": {"mean_iou": 0.5}}, "alpha": None}, ["mean_iou"])
    assert [line.split() for line in lines.splitlines()][1] == ["64", "50.0"]


def test_default_metrics_are_those_of_the_task() -> None:
    held = {"mean_iou", "pixel_accuracy", "kappa", "mean_accuracy"}
    assert head_of_metrics(held).metrics == ("pixel_accuracy", "mean_accuracy", "mean_iou")
    assert head_of_metrics({"images", "top5", "top1"}).metrics == ("top1", "top5")
    with pytest.raises(RunError, match=r"or top1, top5 among the metrics, there are: iou, kappa;"):
        head_of_metrics(["kappa", "iou"])


def test_log_is_cut_behind_a_step_and_loses_a_line_that_a_crash_cut_off(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.cut_log(3)
    for step in (2, 3, 4):
        folder.log({"step": step})
    with (tmp_path / "log.jsonl").open("a") as file:
        file.write('{"step": 1, "tot')
    folder.cut_log(3)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 3]


def test_run_that_differs_from_a_configuration_is_named_with_its_keys(tmp_path: Path) -> None:
    held = plain(small_config())
    check_same_run(held, plain(small_config(workers=7, device="cpu")), tmp_path)
    other = plain(small_config(seed=3, optim={"lr": 0.2, "weight_decay": 0.01}))
    with pytest.raises(RunError, match=r"begun with another optim\.lr, seed; continue it with"):
        check_same_run(other, held, tmp_path)


def test_folder_of_a_run_that_never_began_can_be_used(tmp_path: Path) -> None:
    path = tmp_path / "run"
    RunFolder.create(path, {"seed": 1})
    (path / "tensorboard").mkdir()
    RunFolder.create(path, {"seed": 2})
    assert yaml.safe_load((path / "config.yaml").read_text()) == {"seed": 2}
    (path / "notes.txt").touch()
    with pytest.raises(RunError, match="exists; continue that run with --resume"):
        RunFolder.create(path, {})


@pytest.mark.parametrize(("classes", "shown"), [(0, True), (2, False), (5, False), (6, True)])
def test_tables_show_top5_of_more_than_five_classes(classes: int, shown: bool) -> None:
    metrics = {"64": {"top1": 0.5, "top5": 1.0}}
    results = {"metrics": metrics, "start": metrics, "classes": list("abcdef"[:classes])}
    for table in (results_table, adaptation_table):
        assert ("top5" in table(results, ["top1", "top5"])) is shown
