"""Layer-wise decay of the learning rate: the nearer a layer is to the input, the smaller its rate.

What was learnt first serves every task and needs little change. The rate of a layer is that of the
head times `layer_decay` for each layer between. timm says itself which of its layers lie how deep;
of other networks the order of the children decides.

Source: Clark et al., "ELECTRA", ICLR 2020, https://arxiv.org/abs/2003.10555, for language; as usual
for image networks since Bao et al., "BEiT", ICLR 2022, https://arxiv.org/abs/2106.08254.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from timm.models import group_parameters
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from rsseg.switchable.layers import SwitchableNorm
from rsseg.weights.parts import body_parts, children_with_parameters, is_below

_LONE = 0.9  # Share of the parameters from which a child is the network, under one more name.


@runtime_checkable
class _SaysItsLayers(Protocol):
    """A network of timm."""

    def group_matcher(self, coarse: bool = False) -> Any:
        """Return which parameters lie how deep."""


def layer_scales(network: nn.Module, decay: float) -> dict[str, float]:
    """Return the factor on the learning rate of every parameter by name; 1 behind the body.

    Args:
        network: Without the SwitchableNet around it.
        decay: Factor from one layer to the next one below, above 0 and at most 1.
    """
    body = body_parts(network)
    if isinstance(network, _SaysItsLayers):
        depths = group_parameters(network, network.group_matcher(), reverse=True)
        last = max(depths.values())
        scales = {name: decay ** (last - depth) for name, depth in depths.items()}
        return {
            name: scale if any(is_below(name, part) for part in body) else 1.0
            for name, scale in scales.items()
        }
    layers = _layers(network, body)
    return {
        name: next(
            (
                decay ** (len(layers) - depth)
                for depth, parts in enumerate(layers)
                if any(is_below(name, part) for part in parts)
            ),
            1.0,
        )
        for name, _ in network.named_parameters()
    }


def _layers(network: nn.Module, body: list[str]) -> list[list[str]]:
    """Return the names of the modules in each layer of a body, from the input on.

    A BatchNorm belongs to the layer before it.
    """
    modules = {name: network.get_submodule(name) for name in body}
    while True:
        lone = _lone(modules)
        if lone is None:
            break
        inner = [f"{lone}.{name}" for name in children_with_parameters(modules[lone])]
        names = [k for n in modules for k in (inner if n == lone else [n])]
        modules = {name: network.get_submodule(name) for name in names}
    layers: list[list[str]] = []
    for name, module in modules.items():
        if layers and isinstance(module, _BatchNorm | SwitchableNorm):
            layers[-1].append(name)
        else:
            layers.append([name])
    return layers


def _lone(modules: dict[str, nn.Module]) -> str | None:
    """Return the child that holds almost all parameters in children of its own, if there is one."""
    sizes = {name: sum(p.numel() for p in m.parameters()) for name, m in modules.items()}
    largest = max(sizes, key=lambda name: sizes[name])
    children = children_with_parameters(modules[largest])
    normal = isinstance(modules[largest], SwitchableNorm)
    lone = sizes[largest] > _LONE * sum(sizes.values()) and children and not normal
    return largest if lone else None
