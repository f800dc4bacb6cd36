"""What the benchmarks should reach: the ratios and memory that were set before the code was."""

from __future__ import annotations

import operator
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rsseg.common.processor import WITH_BF16

Record = Mapping[str, Any]
CUDA = "CUDA"  # The class of a GPU, whatever the processor beside it.


@dataclass(frozen=True)
class Target:
    """Bounds for one variant of one case.

    Args:
        what: What it is, for readers.
        benchmark: Name of the script.
        case: Name of the case.
        variant: Name of the variant; None for a case of `growth`.
        device: "cpu" or "cuda".
        allocator: The allocator it is meant for; None for any.
        speed: Least median of time(peer) / time(variant).
        memory: Largest share of the peer's memory.
        difference: Largest mean difference to the peer's views, in grey levels.
        exponent: Largest exponent of time and memory.
        share: Least share of the network's gain by switching that is left end to end.
        sizes: Sizes that the measurement must have had; others are free.
        classes: Classes of processors that it is meant for; none for any.
    """

    what: str
    benchmark: str
    case: str
    variant: str | None
    device: str = "cpu"
    allocator: str | None = None
    speed: float | None = None
    memory: float | None = None
    difference: float | None = None
    exponent: float | None = None
    share: float | None = None
    sizes: Record = field(default_factory=dict)
    classes: tuple[str, ...] = ()

    def is_for(self, class_: str) -> bool:
        """Return whether it is meant for a class of machines."""
        if class_ == CUDA or self.device == "cuda":
            return class_ == CUDA and self.device == "cuda"
        return not self.classes or class_ in self.classes


def class_of(record: Record) -> str:
    """Return the class of the machine of a record."""
    machine = record["machine"]
    name: str = machine["class"] if machine["device"] == "cpu" else CUDA
    return name


_FIVE = {"resolutions": [224, 192, 160, 128, 96]}
_THREE = {"resolutions": [352, 224, 96]}
_step = partial(Target, benchmark="step", case="step", sizes=_FIVE)
_loss = partial(
    Target, "pixel-wise loss", "pixelwise", "loss", "ours", sizes={**_THREE, "classes": 40}
)
_segmenter = partial(
    Target,
    "RefineNet-101 step",
    "pixelwise",
    "segmenter step",
    "ours",
    sizes={**_THREE, "encoder": "resnet101"},
)
_views = partial(Target, "five views", "loader", "five views", sizes=_FIVE)
_sample = partial(Target, "NYUDv2 sample", "nyudv2", "sample", sizes=_THREE)
_LABEL_MAP = {"classes": 40, "logits": [32, 32]}


def _label_map(size: str, *, speed: float) -> Target:
    what = f"label map, {size}"
    sizes = _LABEL_MAP
    return Target(what, "label_maps", size, "ours", speed=speed, memory=1 / 8, sizes=sizes)


_GROWTH = ("step against S", "loss against B", "loss against H x W", "loss against K")

TARGETS = (
    _step("step, fp32", variant="channels_last", speed=1.15),
    _step("step, bf16", variant="bf16", speed=2.0, classes=WITH_BF16),
    _step("step, little memory, fp32", variant="checkpoint", speed=0.95, memory=0.40),
    _step(
        "step, little memory, bf16",
        variant="checkpoint bf16",
        speed=1.6,
        memory=0.22,
        classes=WITH_BF16,
    ),
    Target(
        "gradients sent during the backward pass",
        "distributed",
        "step over a slow link",
        "during",
        speed=1.05,
        sizes={"Mbit/s": 1000.0},
    ),
    _loss(allocator="retaining", speed=3.5, memory=1 / 50),
    _loss(allocator="default", speed=8.0, memory=1 / 50),
    _segmenter(allocator="retaining", speed=1.05),
    _segmenter(allocator="default", speed=1.3),
    _views("ours, decoder fast", speed=2.5, difference=1.0),
    _sample("prepared folder", speed=5.0),
    # 5 and 15 x the way by some classes at a time, which is 2 to 3 x as fast as the peer; 20 of the
    # peer's 160 bytes a pixel.
    _label_map("480x640", speed=15.0),
    _label_map("3000x4000", speed=40.0),
    *(
        Target(
            f"{name}, bytes to answer, switched {large} to {small}",
            "end_to_end",
            f"{name}, 480x640, switched",
            f"ours, {small}",
            share=0.6,
        )
        for name, large, small in (("RefineNet-ResNet18", 352, 96), ("ResNet-18", 224, 96))
    ),
    Target("import rsseg", "imports", "start", "import rsseg", speed=1 / 1.15),
    Target(
        "QEM step",
        "quantization",
        "QEM step",
        "buckets",
        speed=5.0,
        memory=0.1,
        sizes={"shape": [8, 256, 56, 56], "bits": 2},
    ),
    *(
        Target(
            f"one ONNX file for all, {side} pixels",
            "onnx_files",
            f"{side} pixels",
            "all resolutions",
            speed=1 / 1.10,
            sizes={"network": "resnet18", "sets": [224, 160, 96]},
        )
        for side in (224, 160, 96)
    ),
    *(Target(f"growth, {name}", "growth", name, None, exponent=1.1) for name in _GROWTH),
    _step("step, bf16", variant="bf16", device="cuda", speed=2.0),
    _step("step, little memory", variant="checkpoint bf16", device="cuda", memory=0.30),
    _loss(device="cuda", speed=20.0),
    _segmenter(device="cuda", speed=1.3),
)


@dataclass(frozen=True)
class Verdict:
    """A target beside what was measured.

    Attributes:
        target: The target.
        wanted: Its bounds, in words.
        measured: The same of the newest measurement.
        met: Whether all bounds hold; None if it was not measured.
    """

    target: Target
    wanted: str
    measured: str
    met: bool | None


def judge(target: Target, records: Sequence[Record]) -> Verdict:
    """Hold a target against the newest record that it is meant for."""
    found = [record for record in records if _is_meant(target, record)]
    values = _values(max(found, key=lambda record: record["measured"])) if found else {}
    wanted, measured, met = [], [], []
    for name, sign, holds in (
        ("speed", ">=", operator.ge),
        ("memory", "<=", operator.le),
        ("difference", "<", operator.lt),
        ("exponent", "<=", operator.le),
        ("share", ">=", operator.ge),
    ):
        bound = getattr(target, name)
        if bound is None:
            continue
        wanted.append(f"{name} {sign} {bound:.3g}")
        if name in values:
            measured.append(f"{name} {values[name]:.3g}")
            met.append(bool(holds(values[name], bound)))
    whole = len(measured) == len(wanted)
    result = all(met) if whole else None
    return Verdict(target, ", ".join(wanted), ", ".join(measured) or "-", result)


def _is_meant(target: Target, record: Record) -> bool:
    device = "cpu" if record["machine"]["device"] == "cpu" else "cuda"
    same = (record["benchmark"], record["case"], record.get("variant"), device)
    return (
        not record.get("left_out")
        and same == (target.benchmark, target.case, target.variant, target.device)
        and target.allocator in (None, record["allocator"])
        and all(record["sizes"].get(name) == size for name, size in target.sizes.items())
    )


def _values(record: Record) -> dict[str, float]:
    if "fits" in record:
        return {"exponent": max(fit["exponent"] for fit in record["fits"].values())}
    values = {"speed": statistics.median(record["ratios"]), **record["notes"]}
    if record["memory_ratio"] is not None:
        values["memory"] = record["memory_ratio"]
    return values
