"""The step of the optimiser alone, on the parameters of an RS-Net.

The peer is PyTorch's default on a processor, a loop over the parameters. Many small tensors, which
private BatchNorms are, make it a matter of calls, not of arithmetic.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch

if not __package__:  # Run as a script: nothing is installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import Case, Work
from benchmarks.runner import make_parser, run
from rsseg.segmentation.model import build_segmenter
from rsseg.switchable.net import SwitchableNet

KINDS: Final[dict[str, Any]] = {
    "AdamW": torch.optim.AdamW,
    "SGD": partial(torch.optim.SGD, momentum=0.9),
}
FORMS: Final[dict[str, dict[str, bool]]] = {
    "a loop": {"foreach": False, "fused": False},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
}


def step_work(net: SwitchableNet, kind: str, form: str) -> Work:
    """Prepare a step, with gradients that are there already."""
    optimizer = KINDS[kind](net.parameters(), lr=1e-6, **FORMS[form])
    for parameter in net.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    optimizer.step()  # The first one makes the state.
    return Work(optimizer.step)


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """Yield each optimiser."""
    network = build_segmenter(
        encoder_name=options.encoder, encoder_weights=None, decoder_channels=32
    )
    net = SwitchableNet(network, [128, 80, 48])
    parameters = list(net.parameters())
    sizes = {
        "tensors": len(parameters),
        "parameters": sum(p.numel() for p in parameters),
        "encoder": options.encoder,
    }
    for kind in KINDS:
        variants = {form: partial(step_work, net, kind, form) for form in FORMS}
        yield Case(kind, variants, sizes, memory=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = make_parser("optimizer", __doc__ or "", device="cpu")
    parser.add_argument("--encoder", default="tu-tf_efficientnet_lite0")
    return run(__file__, parser, cases, arguments)


if __name__ == "__main__":
    sys.exit(main())
