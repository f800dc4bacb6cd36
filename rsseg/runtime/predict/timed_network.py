"""A network at work on single images: one ordinary network for each resolution, and its time."""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor, nn

from rsseg.common.messages import first_line
from rsseg.images.preprocessing import Image, Preprocessing
from rsseg.switchable.net import SwitchableNet

_TIMED_PASSES = 5


class TimedNetwork:
    """A network, ready to predict images of any size at any resolution.

    Args:
        net: A network that was trained.
        preprocessing: How it reads images; the one of its checkpoint.
        name: What messages call it.
        device: Where it is moved to; default: where it is.
    """

    def __init__(
        self,
        net: SwitchableNet,
        preprocessing: Preprocessing,
        *,
        name: str,
        device: str | torch.device | None = None,
    ) -> None:
        self.net = net if device is None else net.to(device)
        self.preprocessing = preprocessing
        self.name = name
        self.device = next(net.parameters()).device
        self._networks: dict[int, nn.Module] = {}
        self._times: dict[tuple[int, ...], float] = {}

    def predict(self, image: Image, resolution: int) -> tuple[Tensor, float]:
        """Predict an image at one resolution.

        Args:
            image: RGB, uint8, shape (H, W, 3).
            resolution: Side of the view in pixels; one that was not trained uses `net.unseen`.

        Returns:
            The logits of a batch of one image, and the median milliseconds of a few passes of
            the network alone, measured once for each size of the view.

        Raises:
            ValueError: If the network cannot read a view of this size.
        """
        view = self.preprocessing.view(image, resolution)[None].to(self.device)
        batch = self.preprocessing.normalise(view)
        network = self._network(resolution)
        try:
            with torch.inference_mode():
                return network(batch), self._milliseconds(network, batch)
        except (RuntimeError, AssertionError) as error:
            reason = first_line(error)
            raise ValueError(
                f"{self.name} cannot predict at resolution {resolution}, with views of "
                f"{batch.shape[-1]}x{batch.shape[-2]} pixels: {reason}"
            ) from error

    def _network(self, resolution: int) -> nn.Module:
        # Made once: a set for a resolution that was not trained must not count as time.
        if resolution not in self._networks:
            self._networks[resolution] = self.net.specialize(resolution).eval()
        return self._networks[resolution]

    def _milliseconds(self, network: nn.Module, batch: Tensor) -> float:
        """Time a few passes; the network has run once before."""
        if batch.shape not in self._times:
            times = []
            for _ in range(_TIMED_PASSES):
                self._wait()
                start = time.perf_counter()
                network(batch)
                self._wait()
                times.append(time.perf_counter() - start)
            self._times[batch.shape] = 1000 * statistics.median(times)
        return self._times[batch.shape]

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
