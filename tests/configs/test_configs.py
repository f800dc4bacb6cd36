"""Every file under configs/: it loads, is complete, says what it is, and differs as named."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from classification.config import ClassificationConfig
from rsseg.common.config import load_config, plain
from rsseg.common.yaml_files import read_yaml
from rsseg.segmentation.config import SegmentationConfig
from rsseg.training.config import RunConfig
from tests.helpers.processes import ROOT

EVERY = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").rglob("*.yaml"))
EXAMPLES = [file for file in EVERY if file.startswith(("configs/own/", "configs/finetune/"))]
FILES = [file for file in EVERY if file not in EXAMPLES]
FOLDERS = sorted({str(Path(file).parent) for file in FILES})
# By the script of a file's command.
KINDS: dict[str, type[RunConfig]] = {
    "train_seg.py": SegmentationConfig,
    "train_cls.py": ClassificationConfig,
}
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
REQUIRED_OF_BLOCKS = {
    "train_seg.py": {
        "augmentation": {"scale", "shorter_side", "crop", "flip", "photometric"},
        "model": {"architecture", "encoder_name", "encoder_weights", "classes"},
    },
    "train_cls.py": {
        "augmentation": {"area", "aspect", "crops", "flip", "flips"},
        "model": {"name", "classes", "width", "weights"},
        "preprocessing": {"mean", "std", "fit", "crop_ratio"},
        "data": {"root", "train", "val"},
    },
}


def _inet(match: re.Match[str]) -> dict[str, object]:
    return {"resolutions": [int(match[1])], "distillation": "none"}


def _sides(match: re.Match[str]) -> dict[str, object]:
    return {"resolutions": [int(side) for side in match[0].split("_")[1:]]}


# What the authors' code does otherwise than the paper says, or than we chose where it is silent.
AS_RELEASED: dict[str, object] = {
    "augmentation.flips": "per_resolution",
    "preprocessing.mean": [0.0, 0.0, 0.0],
    "preprocessing.std": [1.0, 1.0, 1.0],
    "optim.decay_scores": True,
}
# The parts of a file's name, and what each sets otherwise than the rsnet.yaml beside it.
NAMES: list[tuple[str, Callable[[re.Match[str]], dict[str, object]]]] = [
    (r"rsnet", lambda _: {}),
    (r"parallel", lambda _: {"distillation": "none"}),
    (r"inet(\d+)", _inet),
    (r"_(vanilla|dense|from_largest)", lambda match: {"distillation": match[1]}),
    (r"_shared_bn", lambda _: {"batchnorm": "shared"}),
    (r"_as_released", lambda _: AS_RELEASED),
    (r"_multicrop", lambda _: {"augmentation.crops": "per_resolution"}),
    (r"_(\d+)x(\d+)", lambda match: {"resolutions": [int(match[1])] * int(match[2])}),
    (r"(_\d+)+", _sides),
    (r"_area(\d{3})", lambda match: {"augmentation.area": [int(match[1]) / 100, 1.0]}),
    (r"_width(\d{3})", lambda match: {"model.width": int(match[1]) / 100}),
]


def comments(file: str) -> list[str]:
    """Return the lines above the first key."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return list(itertools.takewhile(lambda line: line.startswith("#"), lines))


def command(file: str) -> tuple[str, str]:
    """Return script and configuration of the command in the comment."""
    found = [re.search(r"python (train_\w+\.py) (configs/\S+)", line) for line in comments(file)]
    (only,) = [match for match in found if match]
    return only[1], only[2]


def load(file: str) -> dict[str, Any]:
    return plain(load_config(KINDS[command(file)[0]], ROOT / file))


def rsnet_beside(file: str) -> dict[str, Any]:
    return load(str(Path(file).with_name("rsnet.yaml")))


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values under their whole path, such as "optim.lr"."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        inner = flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {}
        found |= inner or {f"{prefix}{key}": value}
    return found


def named_differences(file: str) -> dict[str, object]:
    """Return what a file's name says to be set otherwise than in the rsnet.yaml beside it."""
    rest, differences = Path(file).stem, dict[str, object]()
    while rest:
        found = [(match, say) for part, say in NAMES if (match := re.match(part, rest))]
        assert found, f"nothing in NAMES explains '{rest}' in the name of {file}"
        match, say = found[0]
        differences |= say(match)
        rest = rest[match.end() :]
    return differences


def test_there_are_configurations() -> None:
    families = {"nyudv2", "nyudv2_small", "rooms", "imagenette", "imagenet/resnet18"}
    assert set(FOLDERS) >= {f"configs/{family}" for family in families}


@pytest.mark.parametrize("file", EVERY)
def test_file_loads_and_names_its_own_command(file: str) -> None:
    script, path = command(file)
    assert path == file
    assert (ROOT / script).is_file()
    assert load(file)


@pytest.mark.parametrize("file", FILES)
def test_first_line_tells_what_the_run_is_and_the_second_what_to_expect(file: str) -> None:
    first, second, *_ = comments(file)
    assert re.match(r"# (RS-(Net|ResNet)|I-Net|Parallel)", first)
    numbers = r"(Published|Measured) .*: .*\d\d\.\d|Read off Fig\. \d: .*\d\d\.\d"
    assert re.search(rf"{numbers}|Not published", second)


@pytest.mark.parametrize("file", FILES)
def test_file_is_complete_and_names_no_folder_of_one_machine(file: str) -> None:
    values = read_yaml(ROOT / file)
    assert set(values) >= REQUIRED
    for block, keys in REQUIRED_OF_BLOCKS[command(file)[0]].items():
        assert set(values[block]) >= keys
    assert not Path(values["data"]["root"]).is_absolute()
    assert not values["data"]["root"].startswith("~")
    beside = flat(read_yaml((ROOT / file).with_name("rsnet.yaml")))
    assert set(flat(values)) - set(named_differences(file)) <= set(beside)
    assert set(beside) <= set(flat(values))


@pytest.mark.parametrize("file", EXAMPLES)
def test_example_is_complete_and_names_no_folder_of_one_machine(file: str) -> None:
    values = read_yaml(ROOT / file)
    assert set(values) >= REQUIRED
    for block, keys in REQUIRED_OF_BLOCKS[command(file)[0]].items():
        assert set(values[block]) >= keys
    assert not Path(values["data"]["root"]).is_absolute()
    single = re.fullmatch(r"plain|longer|inet\d+", Path(file).stem) is not None
    assert (len(values["resolutions"]) == 1) == single
    assert values["distillation"] == "none" or not single


@pytest.mark.parametrize("file", FILES)
def test_i_nets_have_one_resolution_of_the_rs_net_and_learn_from_no_teacher(file: str) -> None:
    config, trained = load(file), rsnet_beside(file)["resolutions"]
    if Path(file).stem.startswith("inet"):
        assert len(config["resolutions"]) == 1
        assert config["distillation"] == "none"
    else:
        assert len(config["resolutions"]) > 1
    assert set(config["resolutions"]) <= set(trained)


@pytest.mark.parametrize("file", FILES)
def test_file_differs_from_its_rs_net_only_as_its_name_says(file: str) -> None:
    config, rsnet, expected = flat(load(file)), flat(rsnet_beside(file)), named_differences(file)
    # From scratch on little data, the summed loss wants a smaller step.
    if Path(file).stem.startswith("inet") and config["optim.lr"] != rsnet["optim.lr"]:
        ratio = config["optim.lr"] / rsnet["optim.lr"]
        assert ratio == pytest.approx(len(rsnet["resolutions"]), rel=0.05)
        expected["optim.lr"] = config["optim.lr"]
    assert {key: config[key] for key in config if config[key] != rsnet[key]} == expected
    assert rsnet["distillation"] == "full"
    assert rsnet["batchnorm"] == "private"


@pytest.mark.parametrize("folder", FOLDERS)
def test_rs_net_has_an_i_net_of_its_largest_resolution_or_of_each(folder: str) -> None:
    trained = load(f"{folder}/rsnet.yaml")["resolutions"]
    inets = {load(file)["resolutions"][0] for file in FILES if f"{folder}/inet" in file}
    assert inets in ({trained[0]}, set(trained))


@pytest.mark.parametrize("file", FILES)
def test_first_line_tells_the_resolutions(file: str) -> None:
    told = [int(side) for side in re.findall(r"(?<![.\w])\d{2,3}\b", comments(file)[0])]
    expected = list(dict.fromkeys(load(file)["resolutions"]))
    must = Path(file).stem.startswith("inet") or Path(file).stem == "rsnet"
    assert told == expected or (not told and not must)


def test_every_variant_of_the_distillation_has_its_file() -> None:
    names = {Path(file).stem for file in FILES if Path(file).parent.name == "nyudv2"}
    variants = {"rsnet", "rsnet_vanilla", "rsnet_dense", "rsnet_from_largest", "rsnet_shared_bn"}
    assert names == variants | {"parallel", "inet352", "inet224", "inet96"}


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
        "dropout": 0.5,
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


@pytest.mark.parametrize("file", EVERY)
def test_small_configurations_take_the_precision_of_the_machine(file: str) -> None:
    """Those of the paper state a format, so that their numbers do not depend on the machine."""
    large = file.startswith(("configs/imagenet/", "configs/nyudv2/"))
    expected = {"fp32", None} if large else {"auto"}
    assert read_yaml(ROOT / file).get("precision") in expected
