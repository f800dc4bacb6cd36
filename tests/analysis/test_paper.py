"""One page of all tables and figures: what a run is, what stands beside it, what is missing."""

from __future__ import annotations

import json
import shlex
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from matplotlib.figure import Figure
from PIL import Image as Pictures

from rsseg.analysis.paper_items import ITEMS
from rsseg.analysis.paper_page import _accuracy, _is_of, report
from rsseg.analysis.paper_runs import (
    PaperRun,
    _area,
    _method,
    _network,
    find_runs,
    settings_of,
)
from rsseg.analysis.published import read_numbers
from rsseg.analysis.results import RunResults
from rsseg.cli import main as cli
from rsseg.common.files import RunError
from tests.helpers.processes import ROOT
from tests.helpers.small_checkpoint import MODELS, write_checkpoint

R18 = {"name": "resnet18", "classes": 1000}


class Page(HTMLParser):
    """Collects rows of cells, pictures, and tags that were not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.pictures: list[str] = []
        self.outside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in ("meta", "img"):
            self.pictures += [str(values["src"])] if tag == "img" else []
        else:
            self.open.append(tag)
        self.outside += [tag] if tag in ("script", "link", "iframe") else []
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def write(
    folder: Path, rows: dict[str, float], trained: list[int], model: dict[str, Any], **config: Any
) -> Path:
    folder.mkdir(parents=True)
    metrics = {side: {"top1": value / 100, "top5": 0.9} for side, value in rows.items()}
    alpha = {str(r): 1 / len(trained) for r in trained} if len(trained) > 1 else None
    content = {"task": "classification", "model": model, "resolutions": trained, "alpha": alpha}
    content |= {"metrics": metrics, "config": config, "data": {"names": "abc"}}
    content["macs"] = {side: int(side) ** 2 * 10_000 for side in rows if side.isdigit()}
    (folder / "results.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for seed, top1 in enumerate((73.0, 74.0)):
        rows = {"224": top1, "96": 64.0, "ensemble": 75.0}
        write(tmp_path / f"runs/rsnet_{seed}", rows, [224, 96], R18, distillation="full", seed=seed)
    write(tmp_path / "runs/inet224", {"224": 71.5, "96": 42.0}, [224], R18)
    write(tmp_path / "runs/inet96", {"96": 62.0}, [96], R18)
    return tmp_path / "runs"


def test_configurations_are_the_rows_of_the_published_numbers() -> None:
    """What a run of a file would be called is what its numbers are published under."""
    for number in read_numbers():
        skipped = ("Fig. 4", "Fig. 9")  # A difference; a subset, which a setting has to name.
        if not number.config or number.item in skipped or number.name in ("widths", "I-224"):
            continue
        config = yaml.safe_load((ROOT / f"configs/{number.config}.yaml").read_text())
        assert _network(config["model"]) == number.network, number
        assert _method(config["resolutions"], config) == number.name, number


def test_configurations_that_are_named_exist() -> None:
    named = [number.config for number in read_numbers() if number.config]
    named += [config for item in ITEMS for config in item.configs]
    assert [name for name in set(named) if not (ROOT / f"configs/{name}.yaml").is_file()] == []


def test_seeds_are_one_row_and_inets_count_at_their_own_resolution(runs: Path) -> None:
    (setting,) = settings_of(find_runs([runs])[0])
    groups = {group.name: group for group in setting.groups()}
    assert list(groups) == ["I-Nets", "I-224", "RS-Net"]
    assert groups["RS-Net"].values("224", "top1") == [0.73, 0.74]
    assert groups["I-Nets"].values("96", "top1") == [0.62]
    assert groups["I-224"].values("96", "top1") == [0.42]


def test_other_recipes_are_not_seeds(runs: Path) -> None:
    write(runs / "slow_0", {"224": 60.0}, [224, 96], R18, distillation="full", epochs=3)
    (setting,) = settings_of(find_runs([runs])[0])
    names = [group.name for group in setting.groups()]
    assert names == ["I-Nets", "I-224", "RS-Net (rsnet)", "RS-Net (slow)"]


def test_key_that_an_earlier_version_did_not_write_is_its_default(tmp_path: Path) -> None:
    settings: list[dict[str, Any]] = [
        {"adapt": {"teacher": 0.5, "labels": True}, "optim": {"lr": 0.1}},
        {
            "adapt": {"teacher": 0.5, "labels": True, "recalibrate": 0},
            "optim": {"lr": 0.1},
            "order": "all",
            "random_resolution": False,
            "fixed_statistics": {"first": 0, "last": 0},
        },
        {"adapt": {"teacher": 0.5, "labels": True, "recalibrate": 9}, "optim": {"lr": 0.1}},
    ]
    for index, config in enumerate(settings):
        write(tmp_path / f"r_{index}", {"32": 1.0}, [64, 32], R18, distillation="full", **config)
    recipes = [run.recipe for run in find_runs([tmp_path])[0]]
    assert recipes[0] == recipes[1]
    assert recipes[0] != recipes[2]


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"random_resolution": True, "batchnorm": "shared"}, "random resolution"),
        ({"random_resolution": True}, "random resolution, private BatchNorm"),
        ({"batchnorm": "shared"}, "parallel, shared BatchNorm"),
    ],
)
def test_random_resolution_is_a_method_of_its_own(config: dict[str, Any], name: str) -> None:
    assert _method([64, 32], {"distillation": "none", **config}) == name


def test_no_change_is_given_against_inets_of_several_recipes(runs: Path) -> None:
    assert "change against the I-Nets" in report(*find_runs([runs]))
    write(runs / "inet224_long", {"224": 71.9}, [224], R18, epochs=500)
    text = report(*find_runs([runs]))
    assert "The I-Nets are of several recipes" in text
    assert "change against the I-Nets" not in text


def write_with_evaluation(folder: Path) -> None:
    """A run at 224, and a later evaluation of its checkpoint at 224 and 96."""
    for name, rows in (("a_lower", {"224": 70.0, "96": 40.0}), ("run", {"224": 70.0})):
        results = write(folder / name, rows, [224], R18) / "results.json"
        change(results, weights="digest")
    write_checkpoint(folder / "run" / "last.pt")


def change(results: Path, **values: Any) -> None:
    results.write_text(json.dumps(json.loads(results.read_text()) | values))


def test_evaluation_of_a_checkpoint_belongs_to_its_run(tmp_path: Path) -> None:
    write_with_evaluation(tmp_path)
    (run,), _ = find_runs([tmp_path])
    assert run.folder.name == "run"
    assert list(run.results.metrics) == ["224", "96"]


def test_pictures_have_what_an_evaluation_has_added(tmp_path: Path) -> None:
    write_with_evaluation(tmp_path)
    (setting,) = settings_of(find_runs([tmp_path])[0])
    (axes,) = _accuracy(setting, "resolution").axes
    points = {str(line.get_label()): np.asarray(line.get_xydata()).tolist() for line in axes.lines}
    assert points["I-Nets"] == [[224, 70]]
    assert points["I-224"] == [[96, 40], [224, 70]]


def test_page_has_ours_beside_the_published_number(runs: Path) -> None:
    page = Page(report(*find_runs([runs])))
    assert page.open == []
    assert page.outside == []
    rows = [row for row in page.rows if row[:3] == ["RS-Net", "top1", "2"]]
    # 73.5 of two seeds, and 73.1 of Table 2.
    assert rows[0][3:] == ["73.5 (73.0 to 74.0) 73.1", "64.0 (64.0 to 64.0) 64.1", rows[0][5]]
    assert all(source.startswith("data:image/png;base64,") for source in page.pictures)
    assert len(page.pictures) >= 2


def test_published_numbers_of_imagenet_do_not_stand_beside_ten_classes(tmp_path: Path) -> None:
    model = {"name": "resnet18", "classes": 10}
    write(tmp_path / "rsnet", {"224": 90.0}, [224, 96], model, distillation="full")
    page = Page(report(*find_runs([tmp_path])))
    assert [row[3] for row in page.rows if row[:2] == ["RS-Net", "top1"]] == ["90.0"]


def test_other_numbers_of_classes_have_a_table_of_their_own(runs: Path) -> None:
    write(runs / "ten", {"224": 99.0}, [224, 96], {**R18, "classes": 10}, distillation="full")
    page = Page(report(*find_runs([runs])))
    cells = [row[3] for row in page.rows if row[:2] == ["RS-Net", "top1"]]
    assert cells.count("99.0") == cells.count("73.5 (73.0 to 74.0) 73.1") == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"resolutions": []}, "does not say at which resolutions the network was trained"),
        ({"metrics": {}}, "there are no metrics"),
    ],
)
def test_results_without_what_a_row_needs_are_left_out(
    values: dict[str, Any], message: str, runs: Path
) -> None:
    change(runs / "inet96" / "results.json", **values)
    found, messages = find_runs([runs])
    assert len(found) == 3
    assert message in messages[0]


def test_missing_runs_are_named_with_their_commands(runs: Path) -> None:
    sides = {str(side): 70.0 for side in (224, 192, 160, 128, 96)}
    for name, distillation in (("whole", "full"), ("alone", "none")):
        write(runs / name, sides, list(map(int, sides)), R18, distillation=distillation)
    text = report(*find_runs([runs]))
    table_2 = text.partition('id="Table-2"')[2].partition("</section>")[0]
    assert "configs/imagenet/resnet18/parallel.yaml" not in table_2
    assert "configs/imagenet/resnet18/parallel_224_96.yaml" in text
    assert "python train_cls.py configs/imagenet/resnet50/rsnet.yaml" in table_2
    assert "configs/imagenet/resnet18/rsnet.yaml" not in table_2  # It is there.
    assert "configs/imagenet/resnet18/inet96.yaml" not in table_2
    assert "configs/imagenet/resnet18/inet128.yaml" in table_2
    assert "python train_seg.py configs/nyudv2/rsnet.yaml" in text


@pytest.mark.parametrize(
    "config", sorted({n.config for n in read_numbers() if n.config} | set(ITEMS[8].configs))
)
def test_run_of_a_configuration_is_not_called_missing(config: str) -> None:
    settings = yaml.safe_load((ROOT / f"configs/{config}.yaml").read_text())
    sides = tuple(settings["resolutions"])
    run = PaperRun(
        folder=Path("x"),
        results=RunResults("x", Path("x"), {}, {}, {}, sides),
        task="segmentation" if "nyudv2" in config else "classification",
        network=_network(settings["model"]),
        method=_method(sides, settings),
        images="",
        data="",
        area=_area(settings),
        classes=0,
        weights="",
        recipe="",
    )
    every = {n.config for n in read_numbers() if n.config} | set(ITEMS[8].configs)
    numbers = [number for number in read_numbers() if number.item != "Appendix A"]
    assert [other for other in every if _is_of(run, other, numbers)] == [config]


def test_inet_that_was_not_tested_lower_has_the_command(tmp_path: Path) -> None:
    for side in (224, 96):
        write(tmp_path / f"inet{side}", {str(side): 70.0}, [side], R18)
    text = report(*find_runs([tmp_path]))
    folder = tmp_path / "inet224"
    assert f"--evaluate {folder / 'last.pt'} --resolutions 224 96 --out {folder}_lower" in text


def test_commands_stand_in_the_table_of_their_task_and_can_be_pasted(tmp_path: Path) -> None:
    for side in (224, 96):
        folder = write(tmp_path / f"my runs/inet{side}", {str(side): 7.0}, [side], R18)
        change(folder / "results.json", task="segmentation", model=MODELS["segmentation"])
    text = report(*find_runs([tmp_path]))
    assert "--evaluate" not in section(text, "Table-2")
    commands = unescape(section(text, "Table-7")).replace("<", "\n").splitlines()
    run = f"{tmp_path}/my runs/inet224"
    words = [shlex.split(line) for line in commands if "my runs" in line]
    assert [line[1:5] for line in words] == [
        ["train_seg.py", "--evaluate", f"{run}/last.pt", "--resolutions"]
    ]
    assert [line[5:] for line in words] == [["224", "96", "--out", f"{run}_lower"]]


def test_run_that_was_not_tested_where_the_figure_needs_it_has_the_command(
    tmp_path: Path,
) -> None:
    sides = {str(side): 70.0 for side in (224, 192, 160, 128, 96)}
    trained = list(map(int, sides))
    write(tmp_path / "r50", sides, trained, R18 | {"name": "resnet50"}, distillation="full")
    write(tmp_path / "r18", sides, trained, R18, distillation="full")
    table_8, fig_4 = (
        section(report(*find_runs([tmp_path])), name) for name in ("Table-8", "Fig.-4")
    )
    assert f"--evaluate {tmp_path}/r50/last.pt --resolutions 448 384 352 288 224 128 64" in table_8
    steps = "224 208 192 176 160 144 128 112 96"
    assert f"--evaluate {tmp_path}/r18/last.pt --resolutions {steps}" in fig_4
    assert "configs/imagenet/mobilenetv2/inet96.yaml" in fig_4
    assert "configs/imagenet/resnet18/rsnet.yaml" not in fig_4  # It is there.
    for name, tested in (("r50", (448, 384, 352, 288, 64)), ("r18", (208, 176, 144, 112))):
        metrics = {key: {"top1": 0.7, "top5": 0.9} for key in (*sides, *map(str, tested))}
        change(tmp_path / name / "results.json", metrics=metrics)
    assert "--evaluate" not in report(*find_runs([tmp_path]))


def test_published_table_1_is_laid_out_as_the_measured_one(runs: Path) -> None:
    """The paper's too has the right network above and the wrong one at the left."""
    rows = Page(section(report(*find_runs([runs])), "Table-1")).rows
    assert rows[0] == ["published", "metric", "224", "192", "160", "128", "96"]
    (row,) = [row for row in rows if row[:2] == ["ResNet-18 parallel", "wrong at 96"]]
    assert row[2:] == ["15.2", "14.2", "12.7", "9.8", ""]


def test_network_of_a_library_is_not_one_of_few_bits(tmp_path: Path) -> None:
    write(tmp_path / "x", {"32": 1.0}, [32, 16], {"name": "timm/net", "classes": 10})
    sections = report(*find_runs([tmp_path])).split("<section")
    (table_2,) = [text for text in sections if 'id="Table-2"' in text]
    (table_3,) = [text for text in sections if 'id="Table-3"' in text]
    assert "timm/net" in table_2
    assert "timm/net" not in table_3


def test_verb_writes_one_page(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_checkpoint(runs / "rsnet_0" / "last.pt")
    (runs / "broken").mkdir()
    (runs / "broken" / "results.json").write_text("{half")
    assert cli.main(["paper", str(runs), "--out", str(tmp_path / "report")]) == 0
    assert capsys.readouterr().out == f"page of 4 runs: {tmp_path / 'report.html'}\n"
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Left out" in text
    assert "broken" in text
    assert cli.main(["paper", str(runs), "--out", str(tmp_path / "report")]) == 2
    assert "report.html exists" in capsys.readouterr().err


def section(text: str, name: str) -> str:
    return text.partition(f'<section id="{name}">')[2].partition("</section>")[0]


def write_picture(path: Path, mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Pictures.new(mode, (48, 40), 1 if mode == "L" else "red").save(path)
    return path


def test_features_stand_in_the_section_of_their_figure(runs: Path, tmp_path: Path) -> None:
    write_checkpoint(runs / "rsnet_0" / "last.pt")
    found = find_runs([runs])
    assert "Give --images DIR" in section(report(*found), "Fig.-3")
    write_picture(tmp_path / "test" / "a" / "red.png")
    figure = section(report(*found, tmp_path / "test"), "Fig.-3")
    assert Page(figure).pictures != []
    assert "images of test" in figure


def test_label_maps_of_photos_are_drawn_by_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, trained in (("rsnet", [64, 32]), ("inet64", [64]), ("inet32", [32])):
        folder = write(tmp_path / "runs" / name, {"32": 50.0}, trained, MODELS["segmentation"])
        content = json.loads((folder / "results.json").read_text()) | {"task": "segmentation"}
        content["config"] = {"distillation": "full"} if name == "rsnet" else {}
        (folder / "results.json").write_text(json.dumps(content))
        write_checkpoint(folder / "last.pt", "segmentation")
    photos, labels = tmp_path / "photos", tmp_path / "labels"
    write_picture(photos / "red.png")
    write_picture(labels / "red.png", "L")
    arguments = ["paper", str(tmp_path / "runs"), "--out", str(tmp_path / "report.html")]
    reading = ["--labels", str(labels), "--label-offset", "0"]
    assert cli.main([*arguments, *reading]) == 2
    assert "give them with --scenes DIR" in capsys.readouterr().err
    assert cli.main([*arguments, "--scenes", str(photos), *reading]) == 0
    figure = section((tmp_path / "report.html").read_text(encoding="utf-8"), "Fig.-8")
    assert len(Page(figure).pictures) == 1
    assert "unet-resnet18" in figure


def test_networks_of_the_figure_are_the_largest_inet_and_the_switchable_ones(
    tmp_path: Path,
) -> None:
    drawn: list[dict[str, Path]] = []

    def scenes(networks: dict[str, Path]) -> Figure:
        drawn.append(networks)
        return Figure()

    for name, trained in (("rsnet", [64, 32]), ("inet64", [64]), ("inet32", [32])):
        folder = write(tmp_path / name, {"32": 50.0}, trained, MODELS["segmentation"])
        content = json.loads((folder / "results.json").read_text()) | {"task": "segmentation"}
        (folder / "results.json").write_text(json.dumps(content))
        write_checkpoint(folder / "last.pt", "segmentation")
    report(*find_runs([tmp_path]), scenes=scenes)
    assert [list(networks) for networks in drawn] == [["I-Nets", "parallel"]]
    assert drawn[0]["I-Nets"] == tmp_path / "inet64" / "last.pt"


def test_names_are_text_and_not_markup(tmp_path: Path) -> None:
    model = {"name": "<b>net</b>", "classes": 10}
    write(tmp_path / "x", {"32": 1.0}, [32, 16], model, distillation="full")
    text = report(*find_runs([tmp_path]))
    assert "<b>" not in text
    assert "&lt;b&gt;net" in text


def test_places_without_results_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"there is no results.json below"):
        find_runs([tmp_path])
    with pytest.raises(RunError, match="nowhere is not a folder"):
        find_runs([tmp_path / "nowhere"])
