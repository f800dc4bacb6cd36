"""Compiling a network for training."""

from __future__ import annotations

import sys

import torch

from rsseg.common.distributed import is_main_process
from rsseg.common.messages import counted
from rsseg.switchable.net import SwitchableNet

MODES = {"default": None, "cuda_graphs": "reduce-overhead"}


def compile_network(net: SwitchableNet, mode: str) -> None:
    """Compile the network inside in place; its state dict stays as it is.

    Every resolution, in training and in evaluation, is a program of its own: with a dynamic size,
    one program for all would be slower at each.

    Args:
        net: The network.
        mode: "none" does nothing, "default" compiles, "cuda_graphs" records CUDA graphs as well.
    """
    if mode == "none":
        return
    # Room for one of each resolution in training and in evaluation, twice over, and a few more.
    programs = 4 * len(net.resolutions) + 8
    config = torch._dynamo.config
    # Torch gives up on a function after 8 programs and goes on uncompiled. The second limit counts
    # the programs of a function for all modules that share it.
    config.recompile_limit = max(config.recompile_limit, programs)
    config.accumulated_recompile_limit = max(config.accumulated_recompile_limit, 16 * programs)
    net.network.compile(dynamic=False, mode=MODES[mode])
    if is_main_process():
        print(
            f"compiling the network for {counted(len(net.resolutions), 'resolution')}: the "
            "first steps take "
            "minutes, and so does the first evaluation",
            file=sys.stderr,
        )
