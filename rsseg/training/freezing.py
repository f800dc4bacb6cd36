"""Parts of a network that are not trained: for a whole run, or in its first epochs.

A frozen part computes as in evaluation: its weights stay, and with them gamma, beta and the
statistics of its BatchNorms, in every set.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.positions import CHILD as POSITIONS
from rsseg.training.config import FreezeConfig
from rsseg.weights.matching import plain_name
from rsseg.weights.parts import ENCODER, body_parts, has_parameters, head_part

BODY, HEAD = "body", "head"


class Freezing:
    """The frozen parts of a network over a run.

    Args:
        net: The network, in training; what does not require gradients now never will.
        parts: What is frozen, and how long.

    Raises:
        ValueError: If a part is not one of the network, or nothing is left to train.
    """

    def __init__(self, net: SwitchableNet, parts: Sequence[FreezeConfig]) -> None:
        network = net.network
        self._modules = [(part, _modules_of(network, part.part)) for part in parts]
        self._trainable = [p for p in network.parameters() if p.requires_grad]
        self._frozen: set[nn.Parameter] = set()
        kept = self._parameters(0)
        if parts and all(parameter in kept for parameter in self._trainable):
            names = ", ".join(part.part for part in parts)
            raise ValueError(f"freeze: {names} leaves nothing of the network to train")

    def _parameters(self, epoch: float) -> set[nn.Parameter]:
        return {p for module in self._frozen_modules(epoch) for p in module.parameters()}

    def _frozen_modules(self, epoch: float) -> list[nn.Module]:
        return [
            module
            for part, modules in self._modules
            if part.epochs is None or epoch < part.epochs
            for module in modules
        ]

    def apply(self, epoch: float) -> bool:
        """Freeze what is frozen in an epoch, counted from 0, and train the rest.

        `math.inf` freezes only what stays frozen to the end of any run.

        Returns:
            Whether other parameters are frozen than before.
        """
        for module in self._frozen_modules(epoch):
            module.eval()
        before, self._frozen = self._frozen, self._parameters(epoch)
        for parameter in self._trainable:
            parameter.requires_grad_(parameter not in self._frozen)
            if parameter in self._frozen:
                parameter.grad = None
        return before != self._frozen


def _modules_of(network: nn.Module, part: str) -> list[nn.Module]:
    """Return the modules that a name of a part stands for.

    Raises:
        ValueError: If there are none.
    """
    modules = {
        name: module
        for name, module in network.named_modules()
        if name and has_parameters(module) and _is_part(name)
    }
    if part in modules:
        return [modules[part]]
    if part in (BODY, ENCODER):
        return [modules[name] for name in body_parts(network)]
    if part == HEAD:
        return [modules[head_part(network)]]
    matching = [module for name, module in modules.items() if fnmatchcase(name, part)]
    if not matching:
        raise ValueError(_unknown_part_message(part, list(modules)))
    return matching


def _is_part(name: str) -> bool:
    """Return whether a module is no set, and no tables of positions: its parent's, as shared ones.

    Args:
        name: Of the module.
    """
    return plain_name(f"{name}.")[1] == "" and POSITIONS not in name.split(".")


def _unknown_part_message(part: str, names: Sequence[str]) -> str:
    known = [BODY, HEAD, *names]
    close = difflib.get_close_matches(part, known, n=3)
    hint = f"did you mean {' or '.join(repr(name) for name in close)}? " if close else ""
    children = dict.fromkeys(name.partition(".")[0] for name in names)
    return (
        f"freeze: no part of the network is named {part!r}; {hint}Parts are {BODY}, {HEAD}, "
        f"{', '.join(children)}, and the layers in them, such as {names[-1]}; * stands for any "
        "letters"
    )
