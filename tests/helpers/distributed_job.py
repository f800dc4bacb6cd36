"""A program for several processes: trains a small classifier and a small segmenter, 20 steps each.

Run by `test_distributed.py` with one process and with several, which have to do the same. The
first process writes what came out to the file that is named on the command line.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
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

RESOLUTIONS, CLASSES, BATCH, STEPS, TESTS = (16, 8), 5, 8, 20, 7
CPU = torch.device("cpu")


class Classifier(nn.Sequential):
    """Two convolutions with BatchNorm, then the mean over the image."""

    def forward(self, images: Tensor) -> Tensor:
        """Give logits (B, K)."""
        maps: Tensor = super().forward(images)  # type: ignore[no-untyped-call]
        return maps.mean(dim=(2, 3))


def network(kind: type[nn.Sequential], *, quantised: bool = False) -> SwitchableNet:
    """Give the same network in every process."""
    torch.manual_seed(0)
    layers = [
        *(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()),
        *(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU()),
        nn.Conv2d(6, CLASSES, 3, padding=1),
    ]
    made = kind(*layers)
    return SwitchableNet(quantize(made) if quantised else made, RESOLUTIONS)


def drawn(seed: int, count: int, label_maps: bool) -> tuple[list[Tensor], Tensor]:
    """Draw images as views, and classes or label maps, of which some have more void than others."""
    source = torch.Generator().manual_seed(seed)
    views = [
        torch.randint(0, 256, (count, 3, side, side), generator=source, dtype=torch.uint8)
        for side in RESOLUTIONS
    ]
    shape = (count, 16, 16) if label_maps else (count,)
    labels = torch.randint(0, CLASSES, shape, generator=source)
    if label_maps:
        for image, rows in enumerate(torch.randint(0, 17, (count,), generator=source).tolist()):
            labels[image, :rows] = 255
    return views, labels


def mine(views: Sequence[Tensor], labels: Tensor, chosen: range) -> tuple[list[Tensor], Tensor]:
    """Give this process's share of a batch."""
    return [view[chosen.start : chosen.stop] for view in views], labels[chosen.start : chosen.stop]


def label_loss(outputs: Outputs) -> MREDLosses:
    """Give the loss of a classifier."""
    return mred_loss(outputs.logits, outputs.target, outputs.scores)


def map_loss(outputs: Outputs) -> MREDLosses:
    """Give the loss of a segmenter, as its task does."""
    losses = pixelwise_mred_loss(outputs.logits, outputs.target, outputs.scores)
    return weighted_by_pixels(losses, outputs.target)


class NoBatches:
    """Only tells how long an epoch is."""

    steps, batch_size = STEPS, BATCH


def train(
    label_maps: bool, *, spoil: bool = False, quantised: bool = False, **settings: Any
) -> dict[str, Any]:
    """Train, then evaluate on tests that cannot be shared equally."""
    values = {"resolutions": list(RESOLUTIONS), "epochs": 1, "batch_size": BATCH}
    config = validate(
        RunConfig, {**values, "optim": {"lr": 0.02}, "device": "cpu", **settings}, "the test"
    )
    net = network(nn.Sequential if label_maps else Classifier, quantised=quantised)
    loss: Loss = map_loss if label_maps else label_loss
    nothing: Any = None
    job = Job(config, net, NoBatches(), loss, nothing, {}, nothing, "")  # type: ignore[arg-type]
    stepper = Stepper(job)
    share = distributed.share_of_batch(BATCH)
    first = share * distributed.rank()
    losses = []
    for step in range(STEPS):
        views, target = mine(*drawn(step, BATCH, label_maps), range(first, first + share))
        if spoil:
            views[1] = views[1] * torch.nan
        losses.append(torch.stack(stepper.step(views, target)))
        stepper.progress.step += 1
    state = stepper.state()
    return {
        "losses": torch.stack(losses),
        "net": state["net"],
        "equal": all_equal(net),
        "results": tested(net, label_maps),
        "random": [state["rng"]["cpu"], *(other["cpu"] for other in state["rng"]["others"])],
    }


def spoiled() -> str:
    """Let the last process meet what is no number; return what this one says of it."""
    try:
        train(False, spoil=distributed.rank() == distributed.world_size() - 1)
    except NotFiniteError as error:
        return str(error)
    return "nothing"


def all_equal(net: SwitchableNet) -> bool:
    """Tell whether all processes hold the same weights, statistics and scores, to the bit."""
    first, *others = distributed.gathered({k: v.clone() for k, v in net.state_dict().items()})
    return all(torch.equal(first[key], other[key]) for other in others for key in first)


def tested(net: SwitchableNet, label_maps: bool) -> dict[str, dict[str, float]]:
    """Evaluate on seven images."""
    views, labels = mine(*drawn(1000, TESTS, label_maps), distributed.share_of_items(TESTS))
    batch = (views, list(labels) if label_maps else labels)

    def make() -> Evaluator:
        return SegmentationEvaluator(CLASSES) if label_maps else ClassificationEvaluator()

    found = evaluate(
        net,
        [batch] if len(labels) else [],
        make,
        resolutions=RESOLUTIONS,
        preprocessing=Preprocessing(),
        device=CPU,
    )
    return found.results()


def main(path: str) -> None:
    """Train in all ways, and write what came out."""
    with distributed.joined(CPU, minutes=1):
        found = {
            name: train(label_maps, **settings)
            for name, label_maps, settings in (
                ("classifier", False, {"sync_batchnorm": True}),
                ("segmenter", True, {"sync_batchnorm": True}),
                ("two_pass", True, {"sync_batchnorm": True, "memory": "two_pass"}),
                ("checkpoint", False, {"sync_batchnorm": True, "memory": "checkpoint"}),
                ("own statistics", False, {"ema_decay": 0.9}),
                ("quantised", False, {"sync_batchnorm": True, "quantised": True}),
            )
        }
        found["spoiled"] = {"equal": True, "told": distributed.gathered(spoiled())}
        if distributed.is_first():
            torch.save(found, path)


if __name__ == "__main__":
    main(sys.argv[1])
