"""PyTorch as an executor, see `protocol`: an ordinary network for each resolution."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final, cast

import numpy as np
import torch
from torch import nn

from rsseg.common.device import choose_device
from rsseg.quantization.convert import has_private_quantizers, plain_network
from rsseg.runtime.protocol import Logits, Views, check_views, view_size_error
from rsseg.switchable.convert import sharing_copy
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.resolutions import check_resolution

KEPT: Final = 16  # networks of untrained resolutions; each is a few thousand numbers and objects


class TorchExecutor:
    """PyTorch: an ordinary network for each resolution, which share all parameters.

    Networks of trained resolutions are made at once, those of others with their first views. The
    network that is given keeps its mode, its active set and its statistics: one in training can
    lend itself. Quantised weights, and the sets of untrained resolutions, are those of the moment
    when they were made; after further steps make a new executor.

    Args:
        net: The network; its rule `unseen` is the one of this moment.
        device: Where its tensors are moved to, "auto", "cpu" or "cuda"; default: where they are.
        kept: How many networks of untrained resolutions are kept, those used last.

    Raises:
        ValueError: If there is no such device.
    """

    name = "torch"

    def __init__(self, net: SwitchableNet, *, device: str | None = None, kept: int = KEPT) -> None:
        if device is not None:
            net.to(choose_device(device))
        self._device = next(net.parameters()).device
        self.device = str(self._device)
        self.resolutions = tuple(dict.fromkeys(net.resolutions))
        # A copy that shares all tensors: only its mode and its sets are changed.
        self._net = cast(SwitchableNet, sharing_copy(net)).eval()
        if not has_private_quantizers(self._net):  # Then one copy serves all resolutions.
            self._net = cast(SwitchableNet, plain_network(self._net))
        self._trained = {r: self._specialized(r) for r in self.resolutions}
        self._others: OrderedDict[int, nn.Module] = OrderedDict()
        self._kept = kept
        self._lock = threading.Lock()

    def logits(self, images: Views, resolution: int) -> Logits:
        """Compute the logits of a batch, see `Executor`."""
        check_views(images)
        network = self._network(resolution)
        try:
            with torch.inference_mode():
                batch = torch.from_numpy(np.require(images, requirements=["C", "W"]))
                logits = network(batch.to(self._device)).detach().float().cpu()
        except (RuntimeError, AssertionError) as error:
            raise ValueError(view_size_error(resolution, images, error)) from error
        computed: Logits = logits.numpy()
        return computed

    def _network(self, resolution: int) -> nn.Module:
        if resolution in self._trained:
            return self._trained[resolution]
        check_resolution(resolution)
        # Making one lends the shared network a BatchNorm set: one thread at a time.
        with self._lock:
            network = self._others.pop(resolution, None) or self._specialized(resolution)
            self._others[resolution] = network
            while len(self._others) > self._kept:
                self._others.popitem(last=False)
        return network

    def _specialized(self, resolution: int) -> nn.Module:
        return plain_network(self._net.specialize(resolution)).eval()
