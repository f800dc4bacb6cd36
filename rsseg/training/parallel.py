"""How the processes of a run average the gradients of a step.

Where a step has one backward pass, torch's DistributedDataParallel does it: it sends each bucket
of gradients as soon as that pass has completed it, and computes on meanwhile. In memory mode
"two_pass" a step has a backward pass for each resolution, of which the first ones would send what
is not complete yet: there `step` averages the gradients itself, once, behind the last pass.

Source: Li et al., "PyTorch Distributed: Experiences on Accelerating Data Parallel Training",
VLDB 2020, https://arxiv.org/abs/2006.15704.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from rsseg.common.distributed import lost_process_errors, world_size
from rsseg.switchable.net import SwitchableNet
from rsseg.training.config import RunConfig

Hook = Callable[[Any, Any], torch.futures.Future[Tensor]]
# What a bucket of gradients is sent as; None is torch's own sum in the type of the gradients.
COMPRESSIONS: dict[str, Hook | None] = {
    "none": None,
    # A name of our own: under its own one it is refused where torch was built without CUDA.
    "bf16": lambda state, bucket: bf16_compress_hook(state, bucket),  # noqa: PLW0108
}


class LogitsAndScores(nn.Module):
    """All that a loss reads of a network, in one forward pass.

    DistributedDataParallel finds the parameters of a step behind the outputs of forward; scores
    that the loss took from elsewhere would count as unused.

    Args:
        net: The network; its parameters are shared.
    """

    def __init__(self, net: SwitchableNet) -> None:
        super().__init__()
        self.net = net

    def forward(
        self, views: Sequence[Tensor], members: Sequence[int] | None = None
    ) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """Return the logits of the views, and the raw scores of their resolutions, if any."""
        logits, scores = self.net(views, members), self.net.scores
        if scores is None or members is None:
            return logits, scores
        return logits, scores[list(members)]


def data_parallel(net: SwitchableNet, config: RunConfig) -> DistributedDataParallel | None:
    """Return a wrapper of a network whose backward pass averages the gradients of all processes.

    All processes have to call this, when the parameters have their final device and
    `requires_grad`. The network itself stays as it is, and so does its state dict.

    Args:
        net: The network, in training.
        config: Settings of the run.

    Returns:
        The wrapper, which is called as `LogitsAndScores`; None if there is one process, or if the
        gradients are averaged behind the last of several backward passes.
    """
    if world_size() == 1 or config.memory == "two_pass":
        return None
    # A step with drawn resolutions leaves out the private sets of the others.
    same_parameters = not config.leaves_out_resolutions or config.batchnorm == "shared"
    with warnings.catch_warnings(), lost_process_errors():
        # torch 2.13 calls it forward_sync_buffers, which earlier versions do not know.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
        parallel = DistributedDataParallel(
            LogitsAndScores(net),
            broadcast_buffers=False,  # `state` averages the statistics of the BatchNorms.
            gradient_as_bucket_view=True,
            static_graph=same_parameters,
            find_unused_parameters=not same_parameters,
        )
    hook = COMPRESSIONS[config.gradient_compression]
    if hook is not None:
        parallel.register_comm_hook(None, hook)
    return parallel


def check_compression(config: RunConfig) -> None:
    """Check that there are gradients to compress.

    Raises:
        ValueError: If one process trains alone.
    """
    if config.gradient_compression != "none" and world_size() == 1:
        raise ValueError(
            f"gradient_compression '{config.gradient_compression}' is for what several processes "
            "send each other, and this run has one; set gradient_compression=none, or start it "
            "with torchrun"
        )
