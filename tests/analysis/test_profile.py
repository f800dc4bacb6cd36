"""Facts about rsseg/analysis/profile.py: the paper's counts, and the verb `rsseg profile`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from rsseg.analysis.profile import Profile, layout, profile
from rsseg.classifiers.build import build_classifier
from rsseg.cli import main as cli
from rsseg.common.checkpoint import write_checkpoint
from rsseg.switchable.net import SwitchableNet

SIDES = (224, 192, 160, 128, 96)
SMALL: dict[str, Any] = {"name": "mobilenetv2", "classes": 3, "width": 0.25}


@pytest.mark.parametrize(
    ("name", "one", "five", "units", "millions"),
    [
        (
            *("resnet18", 11_689_512, 11_727_912),
            *((11.15, 11.18), (1814.1, 1332.9, 925.8, 592.7, 333.6)),
        ),
        (
            *("resnet50", 25_557_032, 25_769_512),
            *((24.37, 24.58), (4089.2, 3004.8, 2087.3, 1336.6, 752.7)),
        ),
        (
            *("mobilenetv2", 3_504_872, 3_641_320),
            *((3.34, 3.47), (300.8, 221.3, 154.1, 99.1, 56.3)),
        ),
    ],
)
def test_published_counts_of_classifiers(
    name: str, one: int, five: int, units: tuple[float, ...], millions: tuple[float, ...]
) -> None:
    counted = profile(name, SIDES)
    assert (counted.one_set, counted.all_sets) == (one, five)
    assert (counted.sets, counted.scores) == (5, 5)
    assert [n / 2**20 for n in (one, five)] == pytest.approx(units, abs=6e-3)
    assert list(counted.macs) == [str(side) for side in SIDES]
    assert [macs / 1e6 for macs in counted.macs.values()] == pytest.approx(millions, rel=5e-3)
    assert counted.private == 5 * (five - one) // 4
    assert counted.cost_over_largest == pytest.approx(sum(millions) / millions[0], rel=5e-3)
    assert counted.cost_over_inets == 1


def test_published_counts_of_refinenet_with_three_sets() -> None:
    counted = profile("refinenet:resnet101", [352, 224, 96])
    assert (counted.one_set, counted.all_sets, counted.sets) == (118_096_232, 118_306_920, 3)
    macs = [macs / 1e9 for macs in counted.macs.values()]
    assert macs == pytest.approx([124.6, 50.5, 9.27], rel=5e-3)
    assert counted.relative_macs["224"] == pytest.approx(50.5 / 124.6, rel=5e-3)


def test_counts_are_those_of_the_network_that_is_trained() -> None:
    torch.manual_seed(0)
    net = SwitchableNet(build_classifier(name="resnet18", classes=7), [64, 32])
    counted = profile("resnet18", [64, 32], classes=7)
    assert counted.all_sets + counted.scores == sum(p.numel() for p in net.parameters())
    sets = [p for name, p in net.named_parameters() if ".sets." in name]
    assert counted.private == sum(p.numel() for p in sets)


def test_equal_resolutions_cost_as_much_as_several_inets() -> None:
    counted = profile("resnet18", [96, 96, 96], classes=10)
    assert list(counted.macs) == ["96", "96_2", "96_3"]
    assert (counted.cost_over_largest, counted.cost_over_inets) == (3, 3)


def test_network_without_batchnorm_has_private_norms_of_its_kind() -> None:
    counted = profile("convnext_tiny", [64, 32], classes=10)
    network = build_classifier(name="convnext_tiny", classes=10)
    norms = [layer for layer in network.modules() if isinstance(layer, nn.LayerNorm)]
    one_set = sum(p.numel() for layer in norms for p in layer.parameters())
    assert (counted.sets, counted.private) == (2, 2 * one_set)
    assert counted.all_sets - counted.one_set == one_set


def test_network_without_norms_has_nothing_private() -> None:
    counted = profile("alexnet", [96, 64], classes=10)
    assert (counted.sets, counted.private, counted.added_share) == (1, 0, 0)
    assert "private" not in layout(counted)


def test_network_that_needs_its_weights_to_be_built_is_counted_too() -> None:
    # Its constructor reads values, which the device without memory refuses.
    with pytest.raises(RuntimeError), torch.device("meta"):
        build_classifier(name="regnet_y_400mf")
    assert profile("regnet_y_400mf", [32]).one_set == 4_344_144


def saved(path: Path, **values: Any) -> SwitchableNet:
    """Write the checkpoint of a small classifier for 48 and 32 pixels."""
    metadata = {
        "task": "classification",
        "model": SMALL,
        "resolutions": [48, 32],
        "batchnorm": "private",
        "preprocessing": {},
        "classes": ["a", "b", "c"],
        **values,
    }
    shared = {"scores": False, "batchnorm": metadata["batchnorm"]}
    net = SwitchableNet(build_classifier(**SMALL), [48, 32], **shared)
    write_checkpoint(path, {"metadata": metadata, "net": net.state_dict()})
    return net


def test_checkpoint_is_counted_as_it_is(tmp_path: Path) -> None:
    net = saved(tmp_path / "last.pt")
    counted = profile(str(tmp_path / "last.pt"))
    assert counted.all_sets == sum(p.numel() for p in net.parameters())
    assert (counted.sets, counted.scores, list(counted.macs)) == (2, 0, ["48", "32"])
    assert list(profile(str(tmp_path / "last.pt"), [64, 40, 32]).macs) == ["64", "40", "32"]


def test_checkpoint_with_one_batchnorm_for_all_has_one_set(tmp_path: Path) -> None:
    saved(tmp_path / "last.pt", batchnorm="shared", preprocessing={"fit": "aspect"})
    counted = profile(str(tmp_path / "last.pt"))
    assert (counted.sets, counted.private) == (1, 0)
    assert counted.one_set == counted.all_sets
    # Views of an image of 640x480 keep its shape.
    assert counted.views == {"48": (48, 64), "32": (32, 43)}


def small_profile() -> Profile:
    return Profile(
        network="net",
        sets=2,
        scores=2,
        one_set=1_000_000,
        all_sets=1_250_000,
        private=500_000,
        views={"64": (64, 64), "32": (32, 40)},
        macs={"64": 20_000_000_000, "32": 6_000_000_000},
        bytes={"32": 5_000_000, "2": 625_000},
    )


def test_layout_tells_both_units_and_all_shares() -> None:
    assert layout(small_profile()).splitlines() == [
        "net",
        "parameters                    number   in 1e6  in 2^20",
        "one BatchNorm set          1,000,000     1.00     0.95",
        "2 private sets             1,250,000     1.25     1.19",
        "+ 2 ensemble scores        1,250,002     1.25     1.19",
        "the private sets are 40.00% of the parameters and add 25.00% to those with one set",
        "",
        "bits of a weight        MB in a file  of 32 bits",
        "32                              5.00     100.0 %",
        "2                               0.62      12.5 %",
        "",
        "resolution        view   MACs in 1e9  of the largest",
        "        64       64x64         20.00         100.0 %",
        "        32       40x32          6.00          30.0 %",
        "",
        "training costs 1.30 times one I-Net at 64, 1.00 times all 2 I-Nets "
        "(multiply-adds of the networks)",
    ]


def test_verb_prints_the_table_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["profile", "mobilenetv2", "--resolutions", "48", "32", "--classes", "5"]
    counted = profile("mobilenetv2", [48, 32], classes=5)
    assert cli.main(command) == 0
    assert capsys.readouterr().out == layout(counted) + "\n"
    assert cli.main([*command, "--json"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert read["macs"] == counted.macs
    assert read["views"] == {"48": [48, 48], "32": [32, 32]}
    assert read["private_share"] == counted.private / counted.all_sets
    assert read["cost_over_largest"] == counted.cost_over_largest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet19", "--resolutions", "64"], "unknown network 'resnet19'; did you mean"),
        (["refinet:resnet18", "--resolutions", "64"], "did you mean 'refinenet'"),
        (["unet:resnet19", "--resolutions", "64"], "unknown encoder 'resnet19'"),
        (["resnet18"], "resnet18 has no resolutions of its own; give --resolutions"),
        (["resnet18", "--resolutions", "32", "64"], "must run from large to small"),
        (["resnet18", "--resolutions", "32", "--classes", "0"], "'classes' in the command line"),
        (["vit_b_16", "--resolutions", "32"], "vit_b_16 cannot take views of 32x32 pixels"),
        (["gone.pt"], "there is no checkpoint gone.pt"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["profile", *arguments]) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("rsseg profile: ")
    assert message in complaint
    assert complaint.count("\n") == 1


def test_checkpoint_takes_no_number_of_classes(tmp_path: Path) -> None:
    saved(tmp_path / "last.pt")
    with pytest.raises(ValueError, match=r"has its own number of classes; leave out --classes"):
        profile(str(tmp_path / "last.pt"), classes=3)


def test_counting_needs_no_memory_for_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    devices: set[str] = set()

    def seen(net: nn.Module) -> int:
        devices.update(parameter.device.type for parameter in net.parameters())
        return 1

    monkeypatch.setattr("rsseg.analysis.profile.count_parameters", seen)
    profile("resnet18", [32])
    assert devices == {"meta"}
