"""Executors: from normalised images to logits at a resolution, each in its own way.

All of them may be called by several threads at once: nothing that one call uses is changed by
another, so a thread gets to the bit what it would get alone. How an image becomes a view, and what
the logits mean, is decided in `predictor`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from rsseg.common.device import choose_device
from rsseg.common.messages import first_line
from rsseg.quantization.convert import has_private_quantizers, plain_network
from rsseg.switchable.convert import sharing_copy
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.resolutions import check_resolution

Views = NDArray[np.float32]  # (B, 3, h, w), normalised
Logits = NDArray[np.float32]  # (B, K) or (B, K, h, w)
KEPT: Final = 16  # networks of untrained resolutions; each is a few thousand numbers and objects


class Executor(Protocol):
    """Computes the logits of views; safe to be called by several threads at once."""

    @property
    def name(self) -> str:
        """Name of the executor, a key of `opening.EXECUTORS`."""

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Trained resolutions that it can compute, each once, largest first."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    def logits(self, images: Views, resolution: int) -> Logits:
        """Compute the logits of a batch.

        Args:
            images: Normalised views, float32, shape (B, 3, h, w).
            resolution: Side in pixels; it chooses the BatchNorm set, images are not resized.

        Returns:
            Logits at the network's own output size, float32, shape (B, K) or (B, K, h, w).

        Raises:
            ValueError: If it cannot compute views of this kind.
        """


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
        self.device = next(net.parameters()).device
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
                logits = network(batch.to(self.device)).detach().float().cpu()
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


def check_views(images: Views) -> None:
    """Check that an array is a batch of views.

    Raises:
        ValueError: If it is not.
    """
    if images.dtype != np.float32 or images.ndim != 4 or images.shape[1] != 3 or not images.size:
        raise ValueError(
            "expected normalised images, float32, shape (B, 3, h, w), got "
            f"{images.dtype}, shape {images.shape}"
        )


def view_size_error(resolution: int, images: Views, error: Exception) -> str:
    """Return the message that a network cannot compute views of this size."""
    reason = first_line(error)
    return (
        f"the network cannot predict at resolution {resolution}, with views of "
        f"{images.shape[-1]}x{images.shape[-2]} pixels: {reason}"
    )
