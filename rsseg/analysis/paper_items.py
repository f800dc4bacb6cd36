"""What belongs to each item of the paper: rows of tables, configurations, the verb beside them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rsseg.analysis.paper_runs import INETS, RANDOM, PaperRun
from rsseg.analysis.published import Number
from rsseg.training.evaluation import ENSEMBLE

_RESNET18: Final = "imagenet/resnet18"
_SETS: Final = ("", "_224_192", "_224_160", "_224_128", "_224_96", "_224_192_160")
_GROWING: Final = ("_224_160_96", "_224_192_160_128")
_SIDES: Final = (224, 192, 160, 128, 96)
_FIG_4_LEFT: Final = tuple(
    f"imagenet/mobilenetv2/{name}"
    for name in ("parallel", "rsnet", *(f"inet{side}" for side in _SIDES))
)
_FIG_4_RIGHT: Final = (f"{_RESNET18}/rsnet", *(f"{_RESNET18}/inet{side}" for side in _SIDES))


@dataclass(frozen=True)
class Item:
    """A table or figure.

    Args:
        name: As the paper calls it, such as "Table 2".
        title: What it shows.
        task: Name of the head of its networks.
        methods: Beginnings of the methods that it has; a comma or the end follows.
        quantised: Whether its networks have few bits.
        needs: Method, or part of it, without which runs do not make the item; "unseen" stands for
            results at a resolution that was not trained, "width" for a MobileNetV2, "alpha" for
            the shares of an ensemble.
        configs: Configurations that it needs and that have no published number of it.
        tests_below: Whether the I-Net of the largest resolution is tested at the others.
        tested: Configurations whose networks are tested at `unseen`.
        unseen: Resolutions, largest first.
    """

    name: str
    title: str
    task: str
    methods: tuple[str, ...]
    quantised: bool = False
    needs: tuple[str, ...] = ()
    configs: tuple[str, ...] = ()
    tests_below: bool = False
    tested: tuple[str, ...] = ()
    unseen: tuple[int, ...] = ()

    def takes(self, run: PaperRun) -> bool:
        """Return whether a run belongs to it."""
        words = run.method.removesuffix(", adapted")
        return (
            run.task == self.task
            and bool(_BITS.search(run.network)) == self.quantised
            and words in self.methods
        )

    def is_shown_by(self, runs: Sequence[PaperRun]) -> bool:
        """Return whether runs that belong to it are enough to show it."""
        if not runs or not self.needs:
            return bool(runs)
        traits = {run.method.removesuffix(", adapted") for run in runs}
        traits |= {trait for run in runs for trait in _traits(run)}
        return bool(traits & set(self.needs))

    def published(self, numbers: list[Number]) -> list[Number]:
        """Return its numbers."""
        return [number for number in numbers if number.item == self.name]


_BITS: Final = re.compile(r" \d+/\d+$")  # of weights and activations, as in "ResNet-18 2/32"


def _traits(run: PaperRun) -> Iterator[str]:
    sides = {str(side) for side in run.results.resolutions}
    if len(sides) > 1 and {key.partition("_")[0] for key in run.results.metrics} - sides - {
        ENSEMBLE
    }:
        yield "unseen"
    if run.network.startswith("MobileNetV2"):
        yield "width"
    if run.results.alpha:
        yield "alpha"


_MAIN: Final = (INETS, "parallel", "RS-Net")
_EQUAL: Final = ("RS-Net", "RS-Net, multi-crop", "RS-Net, equal resolutions")
_VARIANTS: Final = ("RS-Net", "vanilla", "dense", "from_largest")
ITEMS: Final = (
    Item(
        "Table 2",
        "one network against networks of one resolution",
        "classification",
        (*_MAIN, RANDOM),
        tests_below=True,
    ),
    Item("Table 3", "networks of few bits", "classification", _MAIN, quantised=True),
    Item(
        "Table 4", "resolution against width", "classification", (INETS, "RS-Net"), needs=("width",)
    ),
    Item(
        "Table 5", "variants of the distillation", "classification", _VARIANTS, needs=_VARIANTS[1:]
    ),
    Item(
        "Table 6",
        "one crop or several, different or equal resolutions",
        "classification",
        (*_EQUAL, "RS-Net, equal resolutions, multi-crop"),
        needs=(*_EQUAL[1:], "RS-Net, equal resolutions, multi-crop"),
    ),
    Item(
        "Table 7",
        "semantic segmentation",
        "segmentation",
        (*_MAIN, *_VARIANTS[1:], RANDOM),
        tests_below=True,
    ),
    Item(
        "Table 8",
        "resolutions far from those trained",
        "classification",
        ("RS-Net",),
        needs=("unseen",),
        tested=("imagenet/resnet50/rsnet",),
        unseen=(448, 384, 352, 288, 224, 128, 64),
    ),
    Item(
        "Fig. 4",
        "shared and private BatchNorm; resolutions between those trained",
        "classification",
        (*_MAIN, "parallel, shared BatchNorm", "RS-Net, shared BatchNorm"),
        needs=("unseen", "parallel, shared BatchNorm", "RS-Net, shared BatchNorm"),
        configs=(*_FIG_4_LEFT, *_FIG_4_RIGHT),
        tested=_FIG_4_RIGHT,
        unseen=tuple(range(224, 95, -16)),
    ),
    Item(
        "Fig. 9",
        "parallel training of two and more resolutions against the I-Nets (with Fig. 5)",
        "classification",
        (INETS, "parallel"),
        needs=("parallel",),
        configs=tuple(
            f"{_RESNET18}/parallel{sides}{area}"
            for area in ("", "_area030")
            for sides in (*_SETS, *_GROWING)
        )
        + tuple(f"{_RESNET18}/inet{side}_area030" for side in _SIDES),
    ),
    Item(
        "Appendix A",
        "shares alpha of the ensemble",
        "classification",
        ("RS-Net",),
        needs=("alpha",),
    ),
)
