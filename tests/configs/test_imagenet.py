"""The ImageNet files: every row of the paper's tables is there, with its recipe.

Their numbers are in test_published.py. All here was written from the paper, not from the files.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from rsseg.training.resume import default_folder
from tests.configs.test_configs import AS_RELEASED, FILES, comments, flat, load
from tests.helpers.processes import ROOT

NETWORKS = ("resnet18", "resnet50", "mobilenetv2")
TRAINED = [224, 192, 160, 128, 96]
INETS = {f"inet{side}" for side in TRAINED}
SETS = [[224, 192], [224, 160], [224, 128], [224, 96], [224, 160, 96]]
SETS += [[224, 192, 160], [224, 192, 160, 128]]
TABLE_8 = [448, 384, 352, 288, 224, 128, 64]
EVERY_16 = [224, 208, 192, 176, 160, 144, 128, 112, 96]
# What all networks of the paper have in common.
RECIPE: dict[str, Any] = {
    "resolutions": TRAINED,
    "distillation": "full",
    "distillation_scale": 1.0,
    "batchnorm": "private",
    "freeze_batchnorm": False,
    "init": None,
    "adapt": None,
    "freeze": [],
    "model.classes": 1000,
    "model.width": 1.0,
    "model.weights": None,
    "batch_size": 256,
    "optim.kind": "sgd",
    "optim.body_lr": None,
    "optim.encoder_lr": None,
    "optim.layer_decay": None,
    "optim.momentum": 0.9,
    "optim.nesterov": False,
    "optim.no_decay": False,
    "optim.decay_batchnorm": True,
    "optim.decay_scores": False,
    "optim.clip_norm": None,
    "schedule.warmup_epochs": 0.0,
    "augmentation.area": [0.08, 1.0],
    "augmentation.aspect": pytest.approx([3 / 4, 4 / 3]),
    "augmentation.crops": "single",
    "augmentation.flip": 0.5,
    "augmentation.flips": "single",
    "preprocessing.fit": "crop",
    "preprocessing.crop_ratio": 0.875,
    "preprocessing.crop_ratios": {},
    "preprocessing.mean": [0.485, 0.456, 0.406],
    "preprocessing.std": [0.229, 0.224, 0.225],
    "label_smoothing": 0.0,
    "mixing.mixup": 0.0,
    "mixing.cutmix": 0.0,
    "teacher": None,
    "ema_decay": None,
    "sandwich": False,
    "random_resolution": False,
    "order": "all",
    "fixed_statistics.first": 0,
    "fixed_statistics.last": 0,
    "precision": "fp32",
}
RESNET = {
    "epochs": 120,
    "optim.lr": 0.1,
    "optim.weight_decay": 1e-4,
    "schedule.kind": "cosine",
    "schedule.milestones": [],
    "model.quantization": None,
    "model.options": {},
}
FEW_BITS = {
    "epochs": 120,
    "optim.lr": pytest.approx([1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6]),
    "optim.weight_decay": 1e-4,
    "schedule.kind": "staged",
    "schedule.milestones": [30, 60, 85, 95, 105],
    "model.quantization.weights": 2,
    "model.quantization.quantizer": "lq",
    "model.quantization.basis": "shared",
    "model.quantization.momentum": 0.9,
    "model.quantization.debias": True,
}
# After the activation with the last gammas at 0, or before it.
W2A32 = FEW_BITS | {"model.quantization.activations": 32, "model.options.zero_init_residual": True}
W2A2 = FEW_BITS | {"model.quantization.activations": 2, "model.options": {}}
OWN: dict[str, dict[str, Any]] = {
    "resnet18": RESNET | {"model.name": "resnet18"},
    "resnet50": RESNET | {"model.name": "resnet50"},
    "mobilenetv2": RESNET
    | {
        "model.name": "mobilenetv2",
        "epochs": 150,
        "optim.lr": 0.05,
        "optim.weight_decay": 4e-5,
    },
    "resnet18_w2a32": W2A32 | {"model.name": "resnet18"},
    "resnet50_w2a32": W2A32 | {"model.name": "resnet50"},
    "resnet18_w2a2": W2A2 | {"model.name": "preact_resnet18"},
    "resnet50_w2a2": W2A2 | {"model.name": "preact_resnet50"},
}
# What each network of the ablations has otherwise than its RS-Net of Table 2.
PER_RESOLUTION = {"augmentation.crops": "per_resolution"}
ABLATIONS: dict[str, dict[str, Any]] = {
    "resnet18/rsnet_vanilla": {"distillation": "vanilla"},
    "resnet18/rsnet_dense": {"distillation": "dense"},
    "resnet18/rsnet_from_largest": {"distillation": "from_largest"},
    "resnet18/rsnet_multicrop": PER_RESOLUTION,
    **{f"resnet18/rsnet_{r}x5": {"resolutions": [r] * 5} for r in TRAINED},
    **{
        f"resnet18/rsnet_{r}x5_multicrop": {"resolutions": [r] * 5} | PER_RESOLUTION
        for r in TRAINED
    },
    "mobilenetv2/parallel": {"distillation": "none"},
    "mobilenetv2/parallel_shared_bn": {"distillation": "none", "batchnorm": "shared"},
    **{f"{network}/rsnet_as_released": AS_RELEASED for network in NETWORKS},
}


def path(network: str, name: str) -> str:
    return f"configs/imagenet/{network}/{name}.yaml"


def text(network: str, name: str) -> str:
    return "\n".join(comments(path(network, name)))


def names(network: str) -> set[str]:
    folder = Path("configs/imagenet") / network
    return {Path(file).stem for file in FILES if Path(file).parent == folder}


def resolutions_evaluated(network: str, name: str) -> list[list[int]]:
    """Return the resolutions of the commands that test this run's checkpoint."""
    folder = default_folder(Path(path(network, name))).as_posix()
    pattern = rf"python train_cls\.py --evaluate {folder}/last\.pt --resolutions ([\d ]+)"
    found = re.findall(pattern, text(network, name))
    return [[int(side) for side in sides.split()] for sides in found]


@pytest.mark.parametrize("network", NETWORKS)
def test_table_two_has_its_files_for_every_network(network: str) -> None:
    assert names(network) >= {"rsnet", "parallel"} | INETS


def test_table_two_tests_the_network_of_224_pixels_at_lower_resolutions() -> None:
    for network in NETWORKS:
        (sides,) = resolutions_evaluated(network, "inet224")
        assert set(sides) >= set(TRAINED)


@pytest.mark.parametrize("network", OWN)
def test_recipe_is_that_of_the_method(network: str) -> None:
    recipe = RECIPE | OWN[network]
    config = flat(load(path(network, "rsnet")))
    assert {key: config[key] for key in recipe} == recipe


@pytest.mark.parametrize("name", ABLATIONS)
def test_recipe_of_an_ablation_is_that_of_the_method(name: str) -> None:
    network, stem = name.split("/")
    recipe = RECIPE | OWN[network] | ABLATIONS[name]
    config = flat(load(path(network, stem)))
    assert {key: config[key] for key in recipe} == recipe


def test_normalisation_is_marked_as_a_choice_of_this_project() -> None:
    for file in FILES:
        if file.startswith("configs/imagenet/") and not file.endswith("_as_released.yaml"):
            written = (ROOT / file).read_text(encoding="utf-8")
            assert re.search(r"^preprocessing: .*# mean, std: our choice", written, re.MULTILINE)


def test_resnet18_has_the_ablations_and_nothing_without_a_place_in_the_paper() -> None:
    table_5 = {"rsnet_vanilla", "rsnet_dense", "rsnet_from_largest"}
    table_6 = {f"rsnet_{side}x5{crops}" for side in TRAINED for crops in ("", "_multicrop")}
    table_6 |= {"rsnet_multicrop"}
    pairs_and_sets = {"_".join(["parallel", *map(str, sides)]) for sides in SETS}
    figure_5 = pairs_and_sets | {"parallel"} | INETS
    figure_9 = figure_5 | {f"{name}_area030" for name in figure_5}
    # Table 2 and Fig. 4 right are among them.
    assert names("resnet18") == {"rsnet", "rsnet_as_released"} | table_5 | table_6 | figure_9


def test_mobilenet_has_the_widths_of_table_four_and_the_batchnorms_of_figure_four() -> None:
    widths = {f"inet224_width{width}" for width in ("080", "065", "050", "035")}
    assert names("mobilenetv2") == (
        {"rsnet", "rsnet_as_released", "parallel", "parallel_shared_bn"} | INETS | widths
    )


def test_widths_are_those_of_table_four() -> None:
    widths = {load(path("mobilenetv2", name))["model"]["width"] for name in names("mobilenetv2")}
    assert widths == {1.0, 0.8, 0.65, 0.5, 0.35}


def test_resnet50_has_tables_two_and_eight_and_no_more() -> None:
    assert names("resnet50") == {"rsnet", "rsnet_as_released", "parallel"} | INETS


@pytest.mark.parametrize("network", [name for name in OWN if name not in NETWORKS])
def test_few_bits_have_table_three_and_no_more(network: str) -> None:
    assert names(network) == {"rsnet"} | INETS


def test_networks_of_figure_four_right_are_tested_every_sixteen_pixels_and_no_other() -> None:
    of_the_figure = {"rsnet"} | INETS
    for name in names("resnet18"):
        expected = [EVERY_16] if name in of_the_figure else []
        assert resolutions_evaluated("resnet18", name) == expected


def test_resnet50_tells_how_table_eight_is_made() -> None:
    assert resolutions_evaluated("resnet50", "rsnet") == [TABLE_8]


def test_all_runs_have_folders_of_their_own() -> None:
    folders = [default_folder(Path(file)) for file in FILES]
    assert all(first != second for first, second in itertools.pairwise(sorted(folders)))
