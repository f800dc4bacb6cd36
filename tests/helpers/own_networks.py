"""Networks without a name in the library, as a user's module holds them."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn


class OwnNet(nn.Module):
    """A small classifier, or a segmenter whose logits are in a mapping."""

    def __init__(self, classes: int = 3, width: int = 4, stride: int = 2, *, dense: bool = False):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, stride=stride, padding=1), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.head = nn.Conv2d(width, classes, 1)
        self.dense = dense

    def forward(self, images: Tensor) -> Tensor | OrderedDict[str, Tensor]:
        maps: Tensor = self.head(self.body(images))
        return OrderedDict(out=maps, aux=2 * maps) if self.dense else maps.mean(dim=(2, 3))


def build(**arguments: object) -> nn.Module:
    return OwnNet(**arguments)  # type: ignore[arg-type]


def not_a_network() -> object:
    return [1]


class Outer:
    """Holds a class that is not at the top of its module."""

    class Inner(OwnNet):
        pass
