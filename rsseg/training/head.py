"""A kind of network by its output: all that a table, a service or a checkpoint needs of it.

A `Head` is light: no library of networks is imported before a network is built. What training adds
is in `task`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from rsseg.images.torch_types import Module


class Head(ABC):
    """The output of a kind of network: its name, shape, metrics and formats.

    Attributes:
        name: Its name in checkpoints, exported files and results, where the key is "task".
        noun: What messages call its networks, such as "classifier".
        dense: Whether there is an answer for each pixel: logits are of shape (B, K, h, w) then,
            else (B, K).
        metrics: Metrics that tables show, shares in 0..1.
        metric: The one that decides what is best, and that pictures show.
        formats: Formats in which a service returns answers; the first is the default.
    """

    name: ClassVar[str]
    noun: ClassVar[str]
    dense: ClassVar[bool]
    metrics: ClassVar[tuple[str, ...]]
    metric: ClassVar[str]
    formats: ClassVar[tuple[str, ...]]

    @abstractmethod
    def network(self, model: Mapping[str, Any]) -> Module:
        """Build the network that a checkpoint describes, without pretrained weights.

        Args:
            model: Settings of the network, as the checkpoint's metadata hold them.

        Raises:
            ValueError: If they do not describe a network.
        """
