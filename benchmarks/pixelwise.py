"""The loss of label maps, forward and backward; with --step, the whole step of RefineNet.

Logits lie at a quarter of the views' sizes, labels at the size of the largest view. The peer is
the straightforward form: resize the logits to the labels, then one log-softmax and one
Kullback-Leibler divergence for each pair. Its times depend on the allocator: see --allocator.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

if not __package__:  # Run as a script: nothing is installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import Case, Work
from benchmarks.peers import resized, straightforward_loss
from benchmarks.runner import make_parser, run
from rsseg.common.processor import computes_bf16
from rsseg.images.preprocessing import VOID
from rsseg.losses.mred import MREDLosses, mred_loss
from rsseg.losses.pixelwise import pixelwise_mred_loss
from rsseg.segmentation.model import build_segmenter
from rsseg.switchable.net import SwitchableNet
from rsseg.training.config import OptimConfig
from rsseg.training.optim import build_optimizer, set_learning_rates
from rsseg.training.step import Outputs, StepSettings, set_training_mode, train_step

RESOLUTIONS = (352, 224, 96)
VOID_SHARE = 0.1
LEARNING_RATE = 1e-4
_WARM_RESOLUTIONS = (64, 48)

MapLoss = Callable[[Sequence[Tensor], Tensor, Tensor], MREDLosses]


def shared_loss(logits: Sequence[Tensor], target: Tensor, scores: Tensor) -> MREDLosses:
    """Resize, then take the reference: one log-softmax for each logits, shared by all terms."""
    return mred_loss(resized(logits, target), target, scores, ignore_index=VOID)


LOSSES: dict[str, MapLoss] = {
    "straightforward": straightforward_loss,
    "log-softmax shared": shared_loss,
    "ours": pixelwise_mred_loss,
}


@dataclass(frozen=True)
class Sizes:
    """Of what the loss is: S resolutions, B images, K classes, and where."""

    resolutions: tuple[int, ...]
    batch: int
    classes: int
    device: torch.device

    def labels(self) -> Tensor:
        """Draw label maps, uint8, (B, R, R) for the largest resolution R, with some void."""
        draw = torch.Generator().manual_seed(0)
        shape = (self.batch, self.resolutions[0], self.resolutions[0])
        labels = torch.randint(self.classes, shape, generator=draw, dtype=torch.uint8)
        labels[torch.rand(shape, generator=draw) < VOID_SHARE] = VOID
        return labels.to(self.device)

    def logits(self) -> list[Tensor]:
        """Draw logits, (B, K, r/4, r/4) for each resolution r, that ask for a gradient."""
        draw = torch.Generator().manual_seed(1)
        return [
            torch.randn(self.batch, self.classes, r // 4, r // 4, generator=draw)
            .to(self.device)
            .requires_grad_()
            for r in self.resolutions
        ]

    def described(self) -> dict[str, object]:
        """Return plain values for the record."""
        described = {"resolutions": list(self.resolutions), "batch": self.batch}
        return {**described, "classes": self.classes}


def loss_work(loss: MapLoss, sizes: Sizes) -> Work:
    """Prepare forward and backward of a loss."""
    warm = Sizes(_WARM_RESOLUTIONS, 1, 4, sizes.device)
    return Work(Differentiated(loss, sizes), Differentiated(loss, warm))


class Differentiated:
    """A loss of drawn logits, with its gradients."""

    def __init__(self, loss: MapLoss, sizes: Sizes) -> None:
        self.loss, self.logits, self.labels = loss, sizes.logits(), sizes.labels()
        self.scores = torch.ones(len(self.logits), device=sizes.device, requires_grad=True)

    def __call__(self) -> MREDLosses:
        """Compute loss and gradients."""
        for tensor in (*self.logits, self.scores):
            tensor.grad = None
        losses = self.loss(self.logits, self.labels, self.scores)
        losses.total.backward()  # type: ignore[no-untyped-call]
        return losses


class SegmenterStep:
    """A training step of RefineNet, with one of the losses."""

    def __init__(
        self, loss: MapLoss, sizes: Sizes, *, encoder: str, width: int, precision: str
    ) -> None:
        network = build_segmenter(
            encoder_name=encoder, classes=sizes.classes, decoder_channels=width
        )
        self.net = SwitchableNet(network, sizes.resolutions)
        self.net.to(sizes.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        set_training_mode(self.net, freeze_batchnorm=False)
        self.optimizer = build_optimizer(self.net, OptimConfig(lr=LEARNING_RATE))
        set_learning_rates(self.optimizer, dict.fromkeys(("encoder", "other"), LEARNING_RATE))
        self.loss, self.sizes, self.settings = loss, sizes, StepSettings(precision)
        self.labels = sizes.labels()
        draw = torch.Generator().manual_seed(2)
        self.views = [
            torch.randn(sizes.batch, 3, r, r, generator=draw)
            .to(sizes.device)
            .contiguous(memory_format=torch.channels_last)
            for r in sizes.resolutions
        ]

    def __call__(self) -> MREDLosses:
        """Train with the batch."""
        return self._train(self.views, self.labels)

    def warm(self) -> MREDLosses:
        """Train with the smallest views, in place of all."""
        members = [len(self.views) - 1]
        return self._train(self.views[-1:], self.labels[:, ::8, ::8].contiguous(), members)

    def _train(
        self, views: Sequence[Tensor], labels: Tensor, members: Sequence[int] | None = None
    ) -> MREDLosses:
        return train_step(
            self.net,
            views,
            labels,
            self._loss,
            self.optimizer,
            scores=self.net.scores,
            members=members,
            settings=self.settings,
        )

    def _loss(self, outputs: Outputs) -> MREDLosses:
        assert outputs.scores is not None
        return self.loss(outputs.logits, outputs.target, outputs.scores)


def _loss_case(options: argparse.Namespace) -> Case:
    sizes = Sizes(tuple(options.resolutions), options.batch or 4, options.classes, options.device)
    variants = {name: partial(loss_work, loss, sizes) for name, loss in LOSSES.items()}
    return Case("loss", variants, sizes.described())


def _step_case(options: argparse.Namespace) -> Case:
    batch = options.batch or (1 if options.short else 2)
    sizes = Sizes(tuple(options.resolutions), batch, options.classes, options.device)
    precision = options.precision
    if precision == "auto":
        precision = "bf16" if computes_bf16(options.device) else "fp32"
    network = {"encoder": options.encoder, "width": options.width, "precision": precision}

    def prepared(loss: MapLoss) -> Work:
        step = SegmenterStep(loss, sizes, **network)
        return Work(step, step.warm)

    variants = {name: partial(prepared, LOSSES[name]) for name in ("straightforward", "ours")}
    return Case("segmenter step", variants, {**network, **sizes.described()})


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """Yield the loss alone, or the whole step."""
    yield _step_case(options) if options.step else _loss_case(options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = make_parser("pixelwise", str(__doc__))
    parser.add_argument("--step", action="store_true", help="the whole step of RefineNet")
    parser.add_argument("--resolutions", type=int, nargs="+", default=RESOLUTIONS)
    parser.add_argument("--batch", type=int, help="images (default: loss 4, step 2, short 1)")
    parser.add_argument("--classes", type=int, default=40)
    parser.add_argument("--encoder", default="resnet101", help="of the step")
    parser.add_argument("--width", type=int, default=256, help="of the step's decoder")
    parser.add_argument(
        "--precision",
        default="auto",
        choices=("auto", "fp32", "bf16"),
        help="of the step; auto is bf16 where the device computes in it (default: auto)",
    )
    return run(__file__, parser, cases, arguments)


if __name__ == "__main__":
    sys.exit(main())
