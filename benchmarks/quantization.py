"""What quantisers cost: one QEM step over an activation, and the training step of an RS-Net.

The peer of the QEM step writes the bits of every value into an N x K matrix, as the formula of
LQ-Nets reads; ours counts buckets. Both write the quantised values into a tensor that is there
already, and fit the basis. The peer of a training step is the float network with the same layers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

if not __package__:  # Run as a script: nothing is installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import Case, Work
from benchmarks.runner import make_parser, run
from rsseg.classifiers.build import build_classifier
from rsseg.losses.mred import MREDLosses, mred_loss
from rsseg.quantization.levels import RIDGE, fit_basis, levels_of, nearest_levels
from rsseg.quantization.lqnets import ActivationQuantizer
from rsseg.switchable.net import SwitchableNet
from rsseg.training.config import OptimConfig
from rsseg.training.optim import build_optimizer, set_learning_rates
from rsseg.training.step import Outputs, StepSettings, train_step

_ZEROED = {"zero_init_residual": True}
# Name of the network and its quantisation, for each variant; the first is the peer.
POST_ACTIVATION: dict[str, dict[str, Any]] = {
    "float": {"name": "resnet18", "options": _ZEROED},
    "2/32": {
        "name": "resnet18",
        "options": _ZEROED,
        "quantization": {"weights": 2, "activations": 32},
    },
}
PRE_ACTIVATION: dict[str, dict[str, Any]] = {
    "float": {"name": "preact_resnet18"},
    "2/2": {"name": "preact_resnet18", "quantization": {"weights": 2, "activations": 2}},
}


def explicit_step(values: Tensor, basis: Tensor, out: Tensor) -> Tensor:
    """Quantise values (N,) and fit their basis (K,) with a matrix of all bits."""
    levels = levels_of(basis[None], signed=False)
    taken = torch.bucketize(values, levels.thresholds[0])
    torch.index_select(levels.values[0], 0, taken, out=out)
    bits = levels.codes[0][taken]
    gram = bits.T @ bits + RIDGE * torch.eye(len(basis), device=basis.device)
    fitted: Tensor = torch.linalg.solve(gram, bits.T @ values + RIDGE * basis)
    return fitted


def bucket_step(values: Tensor, basis: Tensor, out: Tensor) -> Tensor:
    """Do the same with counts and sums of buckets."""
    levels = levels_of(basis[None], signed=False)
    _, buckets = nearest_levels(values[None], levels, count=True, out=out[None])
    assert buckets is not None
    return fit_basis(buckets, levels.codes, basis[None])[0]


def _qem(
    step: Callable[[Tensor, Tensor, Tensor], Tensor],
    shape: Sequence[int],
    bits: int,
    device: torch.device,
) -> Work:
    values = torch.randn(*shape, device=device).relu_().flatten()
    # Written once: memory that nobody has touched would be counted at the first call.
    basis, out = ActivationQuantizer(bits).basis[0].to(device), values.clone()
    few, small = values[:1000].clone(), out[:1000].clone()
    return Work(lambda: step(values, basis, out), warm=lambda: step(few, basis, small))


def qem_case(options: argparse.Namespace) -> Case:
    """One step over an activation."""
    steps = {"N x K bits": explicit_step, "buckets": bucket_step}
    prepared = {
        name: partial(_qem, step, options.shape, options.bits, options.device)
        for name, step in steps.items()
    }
    return Case("QEM step", prepared, {"shape": list(options.shape), "bits": options.bits})


def _training(model: dict[str, Any], options: argparse.Namespace) -> Work:
    net = SwitchableNet(build_classifier(classes=options.classes, **model), options.resolutions)
    net.to(options.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    net.train()
    optimizer = build_optimizer(net, OptimConfig(lr=1e-3))
    set_learning_rates(optimizer, {"other": 1e-3})
    views = [
        torch.randn(options.batch, 3, r, r, device=options.device).contiguous(
            memory_format=torch.channels_last
        )
        for r in options.resolutions
    ]
    target = torch.randint(options.classes, (options.batch,), device=options.device)

    def call() -> None:
        train_step(
            net,
            views,
            target,
            _loss,
            optimizer,
            scores=net.scores,
            settings=StepSettings(options.precision),
        )

    return Work(call)


def _loss(outputs: Outputs) -> MREDLosses:
    return mred_loss(outputs.logits, outputs.target, outputs.scores)


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """Yield all cases."""
    yield qem_case(options)
    sizes = {
        "resolutions": list(options.resolutions),
        "batch": options.batch,
        "classes": options.classes,
        "precision": options.precision,
    }
    for name, models in (("post-activation", POST_ACTIVATION), ("pre-activation", PRE_ACTIVATION)):
        prepared = {kind: partial(_training, model, options) for kind, model in models.items()}
        yield Case(f"step, {name} ResNet-18", prepared, sizes)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = make_parser("quantization", __doc__ or "")
    add = parser.add_argument
    add("--shape", type=int, nargs=4, default=[8, 256, 56, 56], help="activation (B, C, h, w)")
    add("--bits", type=int, default=2)
    add("--resolutions", type=int, nargs="+", default=[224, 192, 160, 128, 96])
    add("--batch", type=int, default=8)
    add("--classes", type=int, default=1000)
    add("--precision", default="fp32", choices=("fp32", "bf16"))
    return run(__file__, parser, cases, arguments)


if __name__ == "__main__":
    sys.exit(main())
