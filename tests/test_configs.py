"""Every file under configs/: it loads, is complete, says what it is, and differs as named."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from rsseg.config import load_config, plain
from rsseg.segmentation.config import SegmentationConfig
from rsseg.yaml_files import read_yaml

ROOT = Path(__file__).parents[1]
FILES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "configs").rglob("*.yaml"))
KINDS = {"train_seg.py": SegmentationConfig}  # by the script of a file's command
REQUIRED = {
    "model",
    "resolutions",
    "distillation",
    "data",
    "augmentation",
    "preprocessing",
    "epochs",
    "batch_size",
    "optim",
    "schedule",
    "evaluate_every",
    "seed",
    "workers",
}
FOLDERS = sorted({str(Path(file).parent) for file in FILES})
# What a file may set otherwise than the rsnet.yaml beside it, and must.
DIFFERENCES: dict[str, dict[str, object]] = {
    "rsnet": {},
    "rsnet_vanilla": {"distillation": "vanilla"},
    "rsnet_dense": {"distillation": "dense"},
    "rsnet_from_largest": {"distillation": "from_largest"},
    "rsnet_shared_bn": {"batchnorm": "shared"},
    "parallel": {"distillation": "none"},
}
# Pixel accuracy, mean accuracy and mean IoU of Table 7.
PUBLISHED = {
    "inet352": ["72.3/56.7/43.9"],
    "inet224": ["69.6/52.2/40.5"],
    "inet96": ["50.4/26.5/18.1"],
    "rsnet": ["352 72.3/57.0/44.1", "224 71.4/54.6/42.6", "96 63.0/43.1/32.1"],
}


def comments(file: str) -> list[str]:
    """Return the lines above the first key."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return list(itertools.takewhile(lambda line: line.startswith("#"), lines))


def command(file: str) -> tuple[str, str]:
    """Return script and configuration of the command in the comment."""
    found = [re.search(r"(train_\w+\.py) (configs/\S+)", line) for line in comments(file)[1:3]]
    (only,) = [match for match in found if match]
    return only[1], only[2]


def load(file: str) -> dict[str, Any]:
    return plain(load_config(KINDS[command(file)[0]], ROOT / file))


def rsnet_beside(file: str) -> dict[str, Any]:
    return load(str(Path(file).with_name("rsnet.yaml")))


def test_there_are_configurations() -> None:
    assert set(FOLDERS) >= {"configs/nyudv2", "configs/nyudv2_small", "configs/rooms"}


@pytest.mark.parametrize("file", FILES)
def test_file_loads_and_names_its_own_command(file: str) -> None:
    script, path = command(file)
    assert path == file
    assert (ROOT / script).is_file()
    assert load(file)


@pytest.mark.parametrize("file", FILES)
def test_first_line_tells_what_the_run_is_and_the_comment_what_to_expect(file: str) -> None:
    first, *rest = comments(file)
    assert re.match(r"# (RS-Net|I-Net|Parallel)", first)
    assert any(re.search(r"[Nn]umber|[Pp]ublished|[Ee]xpect|\d\d\.\d", line) for line in rest)


@pytest.mark.parametrize("file", FILES)
def test_file_is_complete_and_names_no_folder_of_one_machine(file: str) -> None:
    values = read_yaml(ROOT / file)
    assert set(values) >= REQUIRED
    assert not Path(values["data"]["root"]).is_absolute()
    assert not values["data"]["root"].startswith("~")
    assert set(values["augmentation"]) == {"scale", "shorter_side", "crop", "flip", "photometric"}
    assert set(values["model"]) >= {"architecture", "encoder_name", "encoder_weights", "classes"}
    assert set(values) == set(read_yaml((ROOT / file).with_name("rsnet.yaml")))


@pytest.mark.parametrize("file", FILES)
def test_i_nets_have_one_resolution_and_learn_from_no_teacher(file: str) -> None:
    config, trained = load(file), rsnet_beside(file)["resolutions"]
    name = Path(file).stem
    if name.startswith("inet"):
        expected = int(name.removeprefix("inet") or trained[0])
        assert expected in trained
        assert config["resolutions"] == [expected]
        assert config["distillation"] == "none"
    else:
        assert config["resolutions"] == trained
        assert len(trained) > 1


@pytest.mark.parametrize("file", FILES)
def test_file_differs_from_its_rs_net_only_as_its_name_says(file: str) -> None:
    config, rsnet = load(file), rsnet_beside(file)
    name = Path(file).stem
    inet = {"resolutions": config["resolutions"], "distillation": "none"}
    if config["optim"] != rsnet["optim"]:  # From scratch: the summed loss wants a smaller step.
        ratio = config["optim"]["lr"] / rsnet["optim"]["lr"]
        assert ratio == pytest.approx(len(rsnet["resolutions"]), rel=0.05)
        inet["optim"] = {**rsnet["optim"], "lr": config["optim"]["lr"]}
    expected = inet if name.startswith("inet") else DIFFERENCES[name]
    assert {key: config[key] for key in config if config[key] != rsnet[key]} == expected
    assert rsnet["distillation"] == "full"
    assert rsnet["batchnorm"] == "private"


@pytest.mark.parametrize("folder", FOLDERS)
def test_rs_net_has_an_i_net_of_its_largest_resolution_or_of_each(folder: str) -> None:
    trained = load(f"{folder}/rsnet.yaml")["resolutions"]
    inets = {load(file)["resolutions"][0] for file in FILES if f"{folder}/inet" in file}
    assert inets in ({trained[0]}, set(trained))


@pytest.mark.parametrize("file", FILES)
def test_first_line_tells_the_resolutions_of_i_nets_and_the_rs_net(file: str) -> None:
    told = [int(number) for number in re.findall(r"\b\d{2,3}\b", comments(file)[0])]
    if Path(file).stem.startswith("inet") or Path(file).stem == "rsnet":
        assert told == load(file)["resolutions"]


def test_every_variant_of_the_distillation_has_its_file() -> None:
    names = {Path(file).stem for file in FILES if Path(file).parent.name == "nyudv2"}
    assert names == set(DIFFERENCES) | {"inet352", "inet224", "inet96"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_comment_holds_the_numbers_of_table_seven(name: str) -> None:
    text = "\n".join(comments(f"configs/nyudv2/{name}.yaml"))
    assert [number for number in PUBLISHED[name] if number not in text] == []


def test_nyudv2_follows_the_recipe_of_the_method() -> None:
    config = load("configs/nyudv2/rsnet.yaml")
    assert config["resolutions"] == [352, 224, 96]
    assert config["model"] | {"options": {}} == {
        "architecture": "refinenet",
        "encoder_name": "resnet101",
        "encoder_weights": "imagenet",
        "classes": 40,
        "decoder_channels": 256,
        "in_channels": 3,
        "dropout": None,  # RefineNet's own, 0.5
        "options": {},
    }
    assert config["augmentation"] == {
        "scale": [0.5, 2.0],
        "shorter_side": 350,
        "crop": 500,
        "flip": 0.5,
        "photometric": 0.0,
    }
    assert config["optim"]["lr"] == [3e-3, 1.5e-3, 7e-4]
    assert config["optim"]["encoder_lr"] == [5e-4, 2.5e-4, 1e-4]
    assert config["optim"]["momentum"] == 0.9
    assert config["optim"]["weight_decay"] == 1e-5
    assert config["optim"]["decay_scores"] is False
    assert config["schedule"]["kind"] == "staged"
    assert config["schedule"]["milestones"] == [100, 200]
    assert (config["epochs"], config["batch_size"]) == (300, 6)
    assert config["preprocessing"]["fit"] == "square"
    assert (config["freeze_batchnorm"], config["data"]["crop"]) == (False, None)
