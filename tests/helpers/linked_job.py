"""A program for several processes: the forms of benchmarks/distributed.py, a few steps each."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from benchmarks import distributed
from benchmarks.step import Sizes
from rsseg.common.distributed import joined

CPU = torch.device("cpu")


def main(_arguments: Sequence[str]) -> None:
    """Check that gradients sent during the backward pass train as those sent afterwards."""
    sizes, link = Sizes((64, 48), 4, 5, CPU), distributed.SimulatedLink(1e5)
    losses = []
    with joined(CPU, minutes=1):
        for compression in (None, "none", "bf16"):
            torch.manual_seed(0)
            if compression is None:
                work = distributed.afterwards(sizes, link)
            else:
                work = distributed.during(sizes, link, compression)
            losses.append(torch.stack([work.call().total for _ in range(3)]))  # type: ignore[attr-defined]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(losses[2], losses[0], rtol=5e-2, atol=5e-2)
    assert not torch.equal(losses[2], losses[0])
