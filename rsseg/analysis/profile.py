"""Size and cost of a network before it is trained: parameters, private sets, multiply-adds.

The network is built as a run would build it and counted with `complexity`; where its code allows,
without memory for its weights. Time and memory on a device are measured elsewhere.

Source: Wang et al., "Resolution Switchable Networks for Runtime Efficient Image Recognition",
ECCV 2020, https://arxiv.org/abs/2007.09558, Section 3.1 (size of the private sets) and Table 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
from torch import nn

from rsseg.classifiers.build import ClassifierConfig, build_classifier
from rsseg.common.config import validate
from rsseg.common.messages import first_line, percent
from rsseg.images.preprocessing import PHOTO_SIZE, Preprocessing
from rsseg.load import load_checkpoint
from rsseg.quantization.packing import stored_sizes
from rsseg.segmentation.model import ModelConfig, build_segmenter
from rsseg.switchable.complexity import count_macs, count_parameters
from rsseg.switchable.layers import SwitchableNorm
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.norms import BATCH, fitting_norms
from rsseg.switchable.positions import SwitchablePositions
from rsseg.switchable.resolutions import Resolutions

_FILES: Final = (".pt", ".safetensors", ".onnx", ".pte")  # taken for files even where there is none


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What a network for several resolutions holds and costs.

    Args:
        network: Its name.
        sets: Number of private BatchNorm sets S; 1 where BatchNorm is shared or absent.
        scores: Number of raw ensemble scores, 0 without an ensemble.
        one_set: Parameters with one BatchNorm set.
        all_sets: Parameters with S sets, the scores left out.
        private: Parameters in the S sets, part of `all_sets`; 0 where nothing is private.
        views: Height and width of the view of each resolution, largest first.
        macs: Multiply-adds of one image at each resolution, largest first.
        bytes: What all tensors take in a file by the bits of a weight, see `stored_sizes`.
    """

    network: str
    sets: int
    scores: int
    one_set: int
    all_sets: int
    private: int
    views: dict[str, tuple[int, int]]
    macs: dict[str, int]
    bytes: dict[str, int]

    @property
    def private_share(self) -> float:
        """Share of the private sets in all parameters, 0..1."""
        return self.private / self.all_sets

    @property
    def added_share(self) -> float:
        """Parameters that S sets add, as a share of those with one set."""
        return (self.all_sets - self.one_set) / self.one_set

    @property
    def relative_macs(self) -> dict[str, float]:
        """Multiply-adds of each resolution as a share of the largest's."""
        largest = next(iter(self.macs.values()))
        return {name: macs / largest for name, macs in self.macs.items()}

    @property
    def cost_over_largest(self) -> float:
        """Multiply-adds of a step of training over those of one I-Net at the largest resolution."""
        return sum(self.relative_macs.values())

    @property
    def cost_over_inets(self) -> float:
        """The same over those of one I-Net for each different resolution: 1 if none is repeated."""
        inets = {name.partition("_")[0]: macs for name, macs in self.macs.items()}
        return sum(self.macs.values()) / sum(inets.values())

    def as_dict(self) -> dict[str, Any]:
        """Return all numbers, those that follow from others included, as plain values."""
        names = ("private_share", "added_share", "relative_macs", "cost_over_largest")
        derived = {name: getattr(self, name) for name in (*names, "cost_over_inets")}
        return asdict(self) | derived


def profile(
    network: str,
    resolutions: Sequence[int] | None = None,
    *,
    classes: int | None = None,
    allow_builder: bool = False,
) -> Profile:
    """Count a network by name, or the one in a checkpoint.

    Args:
        network: Name of a classifier, a segmenter as "ARCHITECTURE:ENCODER", or the path of a
            checkpoint (.pt or packed .safetensors). One by name gets private BatchNorms, or, where
            there are hardly any, all its norms private, see `fitting_norms`.
        resolutions: Sides of the views in pixels, from large to small; a checkpoint has its own.
        classes: Number of classes; default: 1000, of a segmenter 40. A checkpoint has its own.
        allow_builder: See `rsseg.load_checkpoint`.

    Raises:
        ValueError: If a name is unknown, the resolutions are missing or not valid, or the network
            cannot take views of one of them.

    Example:
        >>> profile("resnet18", [224, 96]).all_sets - profile("resnet18", [224]).all_sets
        9600
    """
    net, preprocessing = _opened(network, resolutions, classes, allow_builder=allow_builder)
    sides = Resolutions(resolutions or net.resolutions)
    names, private = sides.names, net.batchnorm == "private"
    views = [preprocessing.size(side, *PHOTO_SIZE) for side in sides]
    scores = 0 if net.scores is None else net.scores.numel()
    return Profile(
        network=network,
        sets=len(net.resolutions) if private else 1,
        scores=scores,
        one_set=count_parameters(net.specialize(net.resolutions[0])),
        all_sets=count_parameters(net) - scores,
        private=count_parameters(nn.ModuleList(_private_layers(net))),
        views=dict(zip(names, views, strict=True)),
        macs={name: _macs(net, view, network) for name, view in zip(names, views, strict=True)},
        bytes=stored_sizes(net),
    )


def _private_layers(net: SwitchableNet) -> Iterator[nn.Module]:
    kinds = SwitchableNorm | SwitchablePositions
    return (layer for layer in net.modules() if isinstance(layer, kinds))


def _opened(
    network: str,
    resolutions: Sequence[int] | None,
    classes: int | None,
    *,
    allow_builder: bool,
) -> tuple[SwitchableNet, Preprocessing]:
    path = Path(network)
    # A folder may have the name of a network, which needs resolutions.
    if path.suffix in _FILES or path.is_file() or (path.is_dir() and not resolutions):
        if classes is not None:
            raise ValueError(f"{network} has its own number of classes; leave out --classes")
        net, preprocessing, _ = load_checkpoint(network, allow_builder=allow_builder)
        return net, preprocessing
    if not resolutions:
        raise ValueError(f"{network} has no resolutions of its own; give --resolutions")
    sizes = Resolutions(resolutions)
    build = _builder(network, {} if classes is None else {"classes": classes})

    def switchable() -> SwitchableNet:
        plain = build()
        norms = fitting_norms(plain)
        # A network without norms has nothing to make private.
        kind: Literal["private", "shared"] = "private" if norms else "shared"
        scores = len(sizes) > 1
        return SwitchableNet(plain, sizes, scores=scores, batchnorm=kind, norms=norms or BATCH)

    return _without_weights(switchable), Preprocessing()


def _builder(network: str, values: dict[str, Any]) -> Callable[[], nn.Module]:
    architecture, colon, encoder = network.partition(":")
    if colon:
        values |= {"architecture": architecture, "encoder_name": encoder}
        segmenter = validate(ModelConfig, values, network)
        return lambda: build_segmenter(segmenter)
    classifier = validate(ClassifierConfig, {"name": network, **values}, "the command line")
    return lambda: build_classifier(classifier)


def _without_weights(build: Callable[[], SwitchableNet]) -> SwitchableNet:
    try:
        with torch.device("meta"):
            return build()
    except RuntimeError:  # Some networks read or copy their weights while they are built.
        return build()


def _macs(net: SwitchableNet, view: tuple[int, int], name: str) -> int:
    try:
        return count_macs(net, view)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ValueError(
            f"{name} cannot take views of {view[1]}x{view[0]} pixels: "
            f"{first_line(error)}; choose other resolutions or another network"
        ) from error


def layout(profile: Profile) -> str:
    """Lay out a profile as text; millions of parameters are told in units of 1e6 and of 2^20."""
    blocks = [_parameter_lines(profile), _size_lines(profile), _mac_lines(profile)]
    return "\n\n".join([*blocks, *([_cost_line(profile)] if len(profile.macs) > 1 else [])])


def _parameter_lines(profile: Profile) -> str:
    rows = [("one BatchNorm set", profile.one_set)]
    if profile.sets > 1:
        rows.append((f"{profile.sets} private sets", profile.all_sets))
    if profile.scores:
        rows.append((f"+ {profile.scores} ensemble scores", profile.all_sets + profile.scores))
    head = f"{'parameters':<22}{'number':>14}{'in 1e6':>9}{'in 2^20':>9}"
    lines = [profile.network, head]
    lines += [f"{what:<22}{n:>14,}{n / 1e6:>9.2f}{n / 2**20:>9.2f}" for what, n in rows]
    if profile.sets > 1:
        lines.append(
            f"the private sets are {profile.private_share:.2%} of the parameters and add "
            f"{profile.added_share:.2%} to those with one set"
        )
    return "\n".join(lines)


def _size_lines(profile: Profile) -> str:
    full = profile.bytes["32"]
    lines = [f"{'bits of a weight':<22}{'MB in a file':>14}{'of 32 bits':>12}"]
    lines += [
        f"{bits:<22}{size / 1e6:>14.2f}{percent(size / full, unit=' %'):>12}"
        for bits, size in profile.bytes.items()
    ]
    return "\n".join(lines)


def _mac_lines(profile: Profile) -> str:
    # Classifiers are told in millions, segmenters in milliards, as they are published.
    unit, digits = (1e9, 2) if max(profile.macs.values()) >= 1e10 else (1e6, 1)
    power = "1e9" if unit == 1e9 else "1e6"
    lines = [f"{'resolution':>10}{'view':>12}{'MACs in ' + power:>14}{'of the largest':>16}"]
    for name, macs in profile.macs.items():
        height, width = profile.views[name]
        share = percent(profile.relative_macs[name], unit=" %")
        lines.append(f"{name:>10}{f'{width}x{height}':>12}{macs / unit:>14,.{digits}f}{share:>16}")
    return "\n".join(lines)


def _cost_line(profile: Profile) -> str:
    largest = next(iter(profile.macs))
    inets = len({name.partition("_")[0] for name in profile.macs})
    line = f"training costs {profile.cost_over_largest:.2f} times one I-Net at {largest}"
    if inets > 1:
        line += f", {profile.cost_over_inets:.2f} times all {inets} I-Nets"
    return f"{line} (multiply-adds of the networks)"
