"""The training step of a classifier: ResNet-18, five resolutions, the full MRED loss.

The peer is the published form (see `peers`). Inputs are drawn, and normalised beforehand.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torchvision
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

if not __package__:  # Run as a script: nothing is installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import Case, UnavailableError, Work
from benchmarks.machine import emulation
from benchmarks.peers import ListResNet18, pairwise_loss
from benchmarks.runner import make_parser, run
from rsseg.common.messages import first_line
from rsseg.losses.mred import MREDLosses, mred_loss
from rsseg.switchable.net import SwitchableNet
from rsseg.training.compile import compile_network
from rsseg.training.config import OptimConfig
from rsseg.training.optim import build_optimizer, set_learning_rates
from rsseg.training.step import Outputs, StepSettings, make_scaler, set_training_mode, train_step

RESOLUTIONS = (224, 192, 160, 128, 96)
LEARNING_RATE = 1e-3
_WARM_BATCH = 2


@dataclass(frozen=True)
class Form:
    """How our step is computed: fields of a run's configuration."""

    channels_last: bool = True
    precision: str = "fp32"
    memory: str = "normal"
    compile: str = "none"


FORMS = {
    "NCHW": Form(channels_last=False),
    "channels_last": Form(),
    "bf16": Form(precision="bf16"),
    "checkpoint": Form(memory="checkpoint"),
    "checkpoint bf16": Form(memory="checkpoint", precision="bf16"),
    "two_pass": Form(memory="two_pass"),
}
COMPILED = {
    "compiled": Form(compile="default"),
    "compiled bf16": Form(compile="default", precision="bf16"),
}
ON_CUDA = {"CUDA graphs bf16": Form(compile="cuda_graphs", precision="bf16")}


@dataclass(frozen=True)
class Sizes:
    """What is trained: S resolutions, B images, K classes, and where."""

    resolutions: tuple[int, ...]
    batch: int
    classes: int
    device: torch.device

    def drawn(self, batch: int, layout: torch.memory_format) -> tuple[list[Tensor], Tensor]:
        """Draw normalised views, (B, 3, r, r) each, and labels, (B,)."""
        draw = torch.Generator().manual_seed(0)
        views = [torch.randn(batch, 3, r, r, generator=draw) for r in self.resolutions]
        labels = torch.randint(self.classes, (batch,), generator=draw)
        moved = [view.to(self.device).contiguous(memory_format=layout) for view in views]
        return moved, labels.to(self.device)


class PublishedStep:
    """The peer's step, in fp32 and NCHW."""

    def __init__(self, sizes: Sizes) -> None:
        self.net = ListResNet18(sizes.classes, len(sizes.resolutions)).to(sizes.device).train()
        self.optimizer = torch.optim.SGD(
            self.net.parameters(), lr=LEARNING_RATE, momentum=0.9, weight_decay=1e-4
        )

    def __call__(self, views: Sequence[Tensor], target: Tensor) -> MREDLosses:
        """Train with one batch."""
        losses = pairwise_loss(self.net(views), target, self.net.scores)
        self.optimizer.zero_grad(set_to_none=True)
        losses.total.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return losses


class OurStep:
    """Our step, computed in one of the forms, as `rsseg.training.loop` does."""

    def __init__(self, sizes: Sizes, form: Form) -> None:
        network = torchvision.models.resnet18(num_classes=sizes.classes)
        self.net = SwitchableNet(network, sizes.resolutions)
        self.net.to(sizes.device, memory_format=layout_of(form))  # type: ignore[call-overload]
        set_training_mode(self.net, freeze_batchnorm=False)
        self.net.checkpointing = form.memory == "checkpoint"
        self.optimizer = build_optimizer(self.net, OptimConfig(lr=LEARNING_RATE))
        set_learning_rates(self.optimizer, dict.fromkeys(("encoder", "other"), LEARNING_RATE))
        compile_network(self.net, form.compile)
        self.settings = StepSettings(form.precision, two_pass=form.memory == "two_pass")
        self.scaler = make_scaler(form.precision, sizes.device)
        self.parallel: DistributedDataParallel | None = None

    def __call__(self, views: Sequence[Tensor], target: Tensor) -> MREDLosses:
        """Train with one batch."""
        return train_step(
            self.net,
            views,
            target,
            _loss,
            self.optimizer,
            scores=self.net.scores,
            settings=self.settings,
            scaler=self.scaler,
            parallel=self.parallel,
        )


def _loss(outputs: Outputs) -> MREDLosses:
    return mred_loss(outputs.logits, outputs.target, outputs.scores)


def layout_of(form: Form) -> torch.memory_format:
    """Return the memory layout of a form."""
    return torch.channels_last if form.channels_last else torch.contiguous_format


def published(sizes: Sizes) -> Work:
    """Prepare the peer."""
    return _work(PublishedStep(sizes), sizes, torch.contiguous_format)


def ours(sizes: Sizes, form: Form) -> Work:
    """Prepare our step in one of the forms."""
    return _work(OurStep(sizes, form), sizes, layout_of(form))


def _work(step: PublishedStep | OurStep, sizes: Sizes, layout: torch.memory_format) -> Work:
    call, warm = (
        partial(step, *sizes.drawn(batch, layout)) for batch in (sizes.batch, _WARM_BATCH)
    )
    return Work(call, warm)


def compiled(sizes: Sizes, form: Form) -> Work:
    """Prepare our step and compile it; another batch size would be another program."""
    work = ours(sizes, form)
    try:
        work.call()
    except RuntimeError as error:  # What is missing: a compiler, or support for this device.
        raise UnavailableError(f"it does not compile here ({first_line(error)})") from error
    return Work(work.call)


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """Yield the one case of this benchmark."""
    batch = options.batch or (8 if options.short else 16)
    sizes = Sizes(tuple(options.resolutions), batch, options.classes, options.device)
    programs = {**COMPILED, **(ON_CUDA if options.device.type == "cuda" else {})}
    variants = {
        "published": partial(published, sizes),
        **{name: partial(ours, sizes, form) for name, form in FORMS.items()},
    }
    if options.compile:
        variants |= {name: partial(compiled, sizes, form) for name, form in programs.items()}
    reasons = {
        name: emulation(form.precision, sizes.device)
        for name, form in {**FORMS, **programs}.items()
        if name in variants
    }
    left_out = {name: reason for name, reason in reasons.items() if reason}
    described = {"network": "ResNet-18", "resolutions": list(sizes.resolutions), "batch": batch}
    yield Case("step", variants, {**described, "classes": sizes.classes}, left_out=left_out)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = make_parser("step", str(__doc__))
    parser.add_argument("--batch", type=int, help="images in a batch (default: 16, short: 8)")
    parser.add_argument("--resolutions", type=int, nargs="+", default=RESOLUTIONS)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--compile", action="store_true", help="compiled variants as well")
    return run(__file__, parser, cases, arguments)


if __name__ == "__main__":
    sys.exit(main())
