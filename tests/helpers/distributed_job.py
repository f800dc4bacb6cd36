"""A program for several processes: trains small classifiers and segmenters, 20 steps each.

Run by tests/common/test_distributed.py with one process and with several, which have to do the
same. The first process writes what came out to the file that is named on the command line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from classification.evaluate import ClassificationEvaluator
from rsseg.common import distributed
from rsseg.common.config import validate
from rsseg.images.preprocessing import Preprocessing
from rsseg.losses.mred import MREDLosses, mred_loss
from rsseg.losses.pixelwise import pixelwise_mred_loss
from rsseg.quantization.convert import quantize
from rsseg.segmentation.evaluate import SegmentationEvaluator
from rsseg.segmentation.task import weighted_by_pixels
from rsseg.switchable.net import SwitchableNet
from rsseg.training.config import RunConfig
from rsseg.training.evaluation import Evaluator, evaluate
from rsseg.training.job import Job
from rsseg.training.state import Stepper
from rsseg.training.step import Loss, NotFiniteError, Outputs

CLASSES, BATCH, STEPS, TESTS = 5, 8, 20, 7
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """One way to train.

    Args:
        settings: Of the run.
        label_maps: Train a segmenter, not a classifier.
        quantizer: Quantise the network so.
        spare: Give the network a parameter that takes no part.
        afterwards: Average the gradients behind the backward pass.
        spoil: Give this process views that are no numbers.
        resolutions: Sides of the views.
    """

    settings: Mapping[str, Any]
    label_maps: bool = False
    quantizer: str | None = None
    spare: bool = False
    afterwards: bool = False
    spoil: bool = False
    resolutions: tuple[int, ...] = (16, 8)


_SYNC = {"sync_batchnorm": True}
_FOUR = (16, 12, 10, 8)  # Of three resolutions a sandwich step takes all.
# Slow, where rounding would grow beyond the bounds within 20 steps.
_SLOW = {**_SYNC, "optim": {"lr": 0.004}}
_SANDWICH = {**_SLOW, "sandwich": True}
_sandwich = partial(Case, _SANDWICH, resolutions=_FOUR)
CASES = {
    "classifier": Case(_SYNC),
    "segmenter": Case(_SYNC, label_maps=True),
    "two_pass": Case({**_SYNC, "memory": "two_pass"}, label_maps=True),
    "checkpoint": Case({**_SYNC, "memory": "checkpoint"}),
    "sandwich": _sandwich(),
    "sandwich segmenter": _sandwich(label_maps=True),
    "sandwich checkpoint": Case({**_SANDWICH, "memory": "checkpoint"}, resolutions=_FOUR),
    "sandwich shared": Case({**_SANDWICH, "batchnorm": "shared"}, resolutions=_FOUR),
    "sandwich afterwards": _sandwich(afterwards=True),
    "group norm": Case({"norms": ["group"]}),
    "positions": Case({"norms": ["group"], "positions": "private"}),
    "frozen": Case({"freeze_batchnorm": True}, label_maps=True),
    "no ensemble": Case({**_SLOW, "distillation": "none"}),
    "clipped": Case({**_SYNC, "optim": {"lr": 0.02, "clip_norm": 0.1}}),
    "spare": Case(_SYNC, spare=True),
    "spare sandwich": _sandwich(spare=True),
    "own statistics": Case({"ema_decay": 0.9}),
    "quantised": Case(_SYNC, quantizer="lq"),
    "quantised sandwich": _sandwich(quantizer="lq"),
    "learned step": Case(_SYNC, quantizer="lsq"),
    "fp16": Case({**_SLOW, "precision": "fp16"}),
    "bf16 gradients": Case({**_SYNC, "gradient_compression": "bf16"}),
}
IN_ALL = ("classifier", "segmenter", "two_pass", "checkpoint", "sandwich", "quantised")


class Segmenter(nn.Sequential):
    """Two convolutions with BatchNorm, in float64: what is rounded is too little to grow."""

    def forward(self, images: Tensor) -> Tensor:
        """Give logits (B, K, H, W)."""
        images = images.to(next(self.parameters()).dtype)
        maps: Tensor = super().forward(images)  # type: ignore[no-untyped-call]
        return maps


class Places(nn.Module):
    """A table of positions, resized to the maps that it is added to."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(torch.randn(1, 6, side, side))

    def forward(self, maps: Tensor) -> Tensor:
        """Add the table to maps (B, 6, h, w)."""
        return maps + F.interpolate(self.pos_embed, maps.shape[2:], mode="bilinear")


class Classifier(Segmenter):
    """The same, then the mean over the image."""

    def forward(self, images: Tensor) -> Tensor:
        """Give logits (B, K)."""
        return super().forward(images).mean(dim=(2, 3))


def network(case: Case, config: RunConfig) -> SwitchableNet:
    """Give the same network in every process."""
    torch.manual_seed(0)
    norm = partial(nn.GroupNorm, 2) if "group" in config.norms else nn.BatchNorm2d
    layers: list[nn.Module] = [
        *(nn.Conv2d(3, 6, 3, padding=1), norm(6), nn.ReLU()),
        *(nn.Conv2d(6, 6, 3, padding=1), norm(6), nn.ReLU()),
        nn.Conv2d(6, CLASSES, 3, padding=1),
    ]
    if config.positions == "private":
        layers.insert(1, Places(max(case.resolutions)))
    made = Segmenter(*layers) if case.label_maps else Classifier(*layers)
    if case.spare:
        made.register_parameter("spare", nn.Parameter(torch.ones(3)))
    if case.quantizer:
        quantize(made, quantizer=case.quantizer)
    ensemble = config.distillation != "none"
    net = SwitchableNet(
        made,
        case.resolutions,
        scores=ensemble,
        batchnorm=config.batchnorm,
        norms=config.norms,
        positions=config.positions,
    )
    return net if config.precision == "fp16" else net.double()  # Autocast leaves float64 alone.


def drawn(seed: int, count: int, case: Case) -> tuple[list[Tensor], Tensor]:
    """Draw images as views, and classes or label maps, of which some have more void than others."""
    source = torch.Generator().manual_seed(seed)
    views = [
        torch.randint(0, 256, (count, 3, side, side), generator=source, dtype=torch.uint8)
        for side in case.resolutions
    ]
    shape = (count, 16, 16) if case.label_maps else (count,)
    labels = torch.randint(0, CLASSES, shape, generator=source)
    if case.label_maps:
        for image, rows in enumerate(torch.randint(0, 17, (count,), generator=source).tolist()):
            labels[image, :rows] = 255
    return views, labels


def mine(views: Sequence[Tensor], labels: Tensor, chosen: range) -> tuple[list[Tensor], Tensor]:
    """Give this process's share of a batch."""
    return [view[chosen.start : chosen.stop] for view in views], labels[chosen.start : chosen.stop]


def label_loss(outputs: Outputs, variant: str) -> MREDLosses:
    """Give the loss of a classifier."""
    return mred_loss(outputs.logits, outputs.target, outputs.scores, variant=variant)


def map_loss(outputs: Outputs, variant: str) -> MREDLosses:
    """Give the loss of a segmenter, as its task does."""
    losses = pixelwise_mred_loss(outputs.logits, outputs.target, outputs.scores, variant=variant)
    return weighted_by_pixels(losses, outputs.target)


class NoBatches:
    """Only tells how long an epoch is."""

    steps, batch_size = STEPS, BATCH


def train(case: Case) -> dict[str, Any]:
    """Train, then evaluate on tests that cannot be shared equally."""
    values = {"resolutions": list(case.resolutions), "epochs": 1, "batch_size": BATCH}
    settings = {"optim": {"lr": 0.02}, "device": "cpu", **case.settings}
    config = validate(RunConfig, {**values, **settings}, "the test")
    net = network(case, config)
    loss: Loss = partial(map_loss if case.label_maps else label_loss, variant=config.distillation)
    nothing: Any = None
    job = Job(config, net, NoBatches(), loss, nothing, {}, nothing, "")  # type: ignore[arg-type]
    stepper = Stepper(job)
    if case.afterwards:
        stepper.parallel = None
    share = distributed.share_of_batch(BATCH)
    first = share * distributed.rank()
    losses = []
    for step in range(STEPS):
        views, target = mine(*drawn(step, BATCH, case), range(first, first + share))
        if case.spoil:
            views[1] = views[1] * torch.nan
        losses.append(torch.stack(stepper.step(views, target)))
        stepper.progress.step += 1
    state = stepper.state()
    return {
        "losses": torch.stack(losses),
        "net": state["net"],
        "equal": all_equal(tensors(state["net"], state["optimizer"]["state"], state["scaler"])),
        "scale": stepper.scaler.get_scale(),
        "parallel": type(stepper.parallel).__name__,
        "results": tested(net, case),
        "random": [state["rng"]["cpu"], *(other["cpu"] for other in state["rng"]["others"])],
    }


def spoiled() -> str:
    """Let the last process meet what is no number; return what this one says of it."""
    try:
        train(Case({}, spoil=distributed.rank() == distributed.world_size() - 1))
    except NotFiniteError as error:
        return str(error)
    return "nothing"


def tensors(*states: object) -> list[Tensor]:
    """Return all numbers of nested mappings, in their order."""
    found: list[Tensor] = []
    for state in states:
        if isinstance(state, Mapping):
            found += tensors(*state.values())
        elif isinstance(state, Tensor):
            found.append(state.clone())
        elif isinstance(state, int | float):
            found.append(torch.tensor(state))
    return found


def all_equal(state: list[Tensor]) -> bool:
    """Tell whether all processes hold the same weights, statistics and momenta, to the bit."""
    first, *others = distributed.all_gather_object(state)
    return all(
        torch.equal(ours, theirs)
        for other in others
        for ours, theirs in zip(first, other, strict=True)
    )


def tested(net: SwitchableNet, case: Case) -> dict[str, dict[str, float]]:
    """Evaluate on seven images."""
    views, labels = mine(*drawn(1000, TESTS, case), distributed.share_of_items(TESTS))
    batch = (views, list(labels) if case.label_maps else labels)

    def make() -> Evaluator:
        return SegmentationEvaluator(CLASSES) if case.label_maps else ClassificationEvaluator()

    found = evaluate(
        net,
        [batch] if len(labels) else [],
        make,
        resolutions=case.resolutions,
        preprocessing=Preprocessing(),
        device=CPU,
    )
    return found.results()


def main(arguments: Sequence[str]) -> None:
    """Train in all ways, and write what came out to the file that the only argument names."""
    (path,) = arguments
    with distributed.joined(CPU, minutes=1):
        # What two processes show need not be shown by four.
        names = CASES if distributed.world_size() <= 2 else IN_ALL
        found = {name: train(CASES[name]) for name in names}
        found["spoiled"] = {
            "equal": True,
            "parallel": "",
            "told": distributed.all_gather_object(spoiled()),
        }
        if distributed.is_main_process():
            torch.save(found, path)
