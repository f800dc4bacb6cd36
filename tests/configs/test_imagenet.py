"""The ImageNet files: every row of the paper's tables is there, with its recipe and its numbers."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from rsseg.training.resume import default_folder
from tests.configs.test_configs import FILES, comments, flat, load
from tests.helpers.processes import ROOT

NETWORKS = ("resnet18", "resnet50", "mobilenetv2")
TRAINED = [224, 192, 160, 128, 96]
INETS = {f"inet{side}" for side in TRAINED}
SETS = [[224, 192], [224, 160], [224, 128], [224, 96], [224, 160, 96]]
SETS += [[224, 192, 160], [224, 192, 160, 128]]
# Table 2, top-1/top-5 at 224, 192, 160, 128 and 96 pixels.
TABLE_2 = {
    "resnet18": {
        "inet": "71.0/90.0 69.8/89.4 68.5/88.2 66.3/86.8 62.6/84.1",
        "parallel": "73.0/90.9 71.7/90.3 70.4/89.6 67.5/87.8 61.5/83.5",
        "rsnet": "73.1/91.0 72.2/90.6 71.1/90.1 68.7/88.5 64.1/85.3",
    },
    "resnet50": {
        "inet": "77.1/93.4 76.4/93.2 75.3/92.4 73.5/91.4 70.7/89.8",
        "parallel": "78.9/94.4 78.1/94.0 76.9/93.1 74.9/92.1 70.2/89.4",
        "rsnet": "79.3/94.6 78.8/94.4 77.9/93.9 76.3/93.0 72.7/91.0",
    },
    "mobilenetv2": {
        "inet": "72.1/90.5 71.0/89.8 69.5/88.9 66.8/87.0 62.6/84.0",
        "parallel": "72.8/90.9 71.7/90.2 70.1/89.2 67.3/87.2 61.4/83.3",
        "rsnet": "73.0/90.8 72.2/90.5 71.1/90.2 68.8/88.2 63.9/84.9",
    },
}
TESTED_LOWER = "71.0/90.0 68.7/88.5 64.7/85.9 56.8/80.0 42.5/67.9"  # ResNet18 trained at 224
TABLE_8 = {448: 75.8, 384: 77.4, 352: 78.1, 288: 79.2, 224: 79.3, 128: 76.3, 64: 61.1}


def path(network: str, name: str) -> str:
    return f"configs/imagenet/{network}/{name}.yaml"


def text(network: str, name: str) -> str:
    return "\n".join(comments(path(network, name)))


def names(network: str) -> set[str]:
    return {Path(file).stem for file in FILES if Path(file).parent.name == network}


def resolutions_evaluated(network: str, name: str) -> list[list[int]]:
    """Return the resolutions of the commands that test this run's checkpoint."""
    folder = default_folder(Path(path(network, name))).as_posix()
    pattern = rf"python train_cls\.py --evaluate {folder}/last\.pt --resolutions ([\d ]+)"
    found = re.findall(pattern, text(network, name))
    return [[int(side) for side in sides.split()] for sides in found]


def with_sides(values: str) -> str:
    return ", ".join(f"{side} {v}" for side, v in zip(TRAINED, values.split(), strict=True))


@pytest.mark.parametrize("network", NETWORKS)
def test_table_two_has_its_files_for_every_network(network: str) -> None:
    assert names(network) >= {"rsnet", "parallel"} | INETS


@pytest.mark.parametrize("network", NETWORKS)
def test_comments_hold_the_numbers_of_table_two(network: str) -> None:
    rows = TABLE_2[network]
    for name in ("rsnet", "parallel"):
        assert f"Published top-1/top-5: {with_sides(rows[name])}." in text(network, name)
    for side, value in zip(TRAINED, rows["inet"].split(), strict=True):
        assert f"Published top-1/top-5: {value}." in text(network, f"inet{side}")


def test_i_net_tells_the_numbers_of_table_two_at_lower_resolutions() -> None:
    assert with_sides(TESTED_LOWER) in text("resnet18", "inet224")
    for network in NETWORKS:
        (sides,) = resolutions_evaluated(network, "inet224")
        assert set(sides) >= set(TRAINED)


@pytest.mark.parametrize("network", NETWORKS)
def test_recipe_is_that_of_the_method(network: str) -> None:
    mobile = network == "mobilenetv2"
    recipe = {
        "resolutions": TRAINED,
        "model.name": network,
        "model.classes": 1000,
        "model.width": 1.0,
        "model.weights": None,
        "epochs": 150 if mobile else 120,
        "batch_size": 256,
        "optim.lr": 0.05 if mobile else 0.1,
        "optim.momentum": 0.9,
        "optim.nesterov": False,
        "optim.weight_decay": 4e-5 if mobile else 1e-4,
        "optim.decay_batchnorm": True,
        "optim.decay_scores": False,
        "optim.clip_norm": None,
        "schedule.kind": "cosine",
        "schedule.warmup_epochs": 0.0,
        "augmentation.area": [0.08, 1.0],
        "augmentation.aspect": pytest.approx([3 / 4, 4 / 3]),
        "augmentation.crops": "single",
        "augmentation.flip": 0.5,
        "augmentation.flips": "single",
        "preprocessing.fit": "crop",
        "preprocessing.crop_ratio": 0.875,
        "preprocessing.mean": [0.485, 0.456, 0.406],
        "preprocessing.std": [0.229, 0.224, 0.225],
        "distillation_scale": 1.0,
        "label_smoothing": 0.0,
        "mixing.mixup": 0.0,
        "mixing.cutmix": 0.0,
        "teacher": None,
        "ema_decay": None,
        "sandwich": False,
        "precision": "fp32",
    }
    config = flat(load(path(network, "rsnet")))
    assert {key: config[key] for key in recipe} == recipe


def test_normalisation_is_marked_as_a_choice_of_this_project() -> None:
    for file in FILES:
        if file.startswith("configs/imagenet/"):
            written = (ROOT / file).read_text(encoding="utf-8")
            assert re.search(r"^preprocessing: .*# mean, std: our choice", written, re.MULTILINE)


def test_resnet18_has_the_ablations_and_nothing_without_a_place_in_the_paper() -> None:
    table_5 = {"rsnet_vanilla", "rsnet_dense", "rsnet_from_largest"}
    table_6 = {"parallel_multicrop", "parallel_224x5", "parallel_224x5_multicrop"}
    figure_4 = {"rsnet_shared_bn", "parallel_shared_bn"}
    pairs_and_sets = {"_".join(["parallel", *map(str, sides)]) for sides in SETS}
    figure_5 = pairs_and_sets | {"parallel"} | INETS
    figure_9 = {f"{name}_area030" for name in figure_5}
    assert names("resnet18") == (
        {"rsnet"} | table_5 | table_6 | figure_4 | figure_5 | figure_9  # Table 2 is among them.
    )


def test_mobilenet_has_the_widths_of_table_four() -> None:
    widths = {load(path("mobilenetv2", name))["model"]["width"] for name in names("mobilenetv2")}
    assert widths == {1.0, 0.8, 0.65, 0.5, 0.35}


def test_networks_of_figure_four_are_resolutions_evaluated_every_sixteen_pixels() -> None:
    for name in {"rsnet", "parallel", "rsnet_shared_bn", "parallel_shared_bn"} | INETS:
        assert resolutions_evaluated("resnet18", name) == [list(range(224, 95, -16))]


def test_resnet50_tells_how_table_eight_is_made_and_its_numbers() -> None:
    assert resolutions_evaluated("resnet50", "rsnet") == [list(TABLE_8)]
    numbers = ", ".join(f"{side} {top1}" for side, top1 in TABLE_8.items())
    assert f"Published top-1 there: {numbers}." in text("resnet50", "rsnet")


def test_all_runs_have_folders_of_their_own() -> None:
    folders = [default_folder(Path(file)) for file in FILES]
    assert all(first != second for first, second in itertools.pairwise(sorted(folders)))
