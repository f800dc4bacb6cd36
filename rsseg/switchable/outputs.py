"""Networks that return more than logits: which part of their output the logits are.

Torchvision's segmenters return a mapping with "out" and perhaps "aux", its GoogLeNet and Inception
a tuple in training, those of transformers a mapping with "logits".
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

Output = str | int


class LogitsOf(nn.Module):
    """A network that returns one part of what another returns.

    Args:
        network: Returns a mapping or a tuple, in one of its modes at least.
        output: Key in the mapping or index in the tuple. A tensor is returned as it is.

    Raises:
        ValueError: If `output` is neither a text nor a whole number.
    """

    def __init__(self, network: nn.Module, output: Output) -> None:
        super().__init__()
        if isinstance(output, bool) or not isinstance(output, str | int):
            raise ValueError(
                f"output must be the key or the index of the logits, got {output!r}; give 'out', "
                "'logits' or 0, say"
            )
        self.network = network
        self.output = output

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits.

        Raises:
            ValueError: If the network returns nothing of this name, or no tensor.
        """
        return checked_logits(select(self.network(images), self.output), self.network)


def select(output: object, key: Output) -> object:
    """Return a part of what a network returned; a tensor is returned as it is.

    Raises:
        ValueError: If there is no such part.
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping) and key in output:
        part: object = output[key]
        return part
    if isinstance(output, tuple | list) and key in range(-len(output), len(output)):
        return output[int(key)]
    raise ValueError(f"the network returned {_kind(output)}, in which there is no {key!r}")


def checked_logits(output: object, network: nn.Module) -> Tensor:
    """Return what a network returned, if it is a tensor.

    Raises:
        TypeError: If it is not; says what to do.
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        remedy = " or ".join(repr(key) for key in output)
    else:
        remedy = "0" if isinstance(output, tuple | list) else "KEY"
    raise TypeError(
        f"{type(network).__name__} returned {_kind(output)}, not a tensor of logits; say where the "
        f"logits are: SwitchableNet(network, resolutions, output={remedy})"
    )


def _kind(output: object) -> str:
    if isinstance(output, Mapping):
        return f"a mapping with {', '.join(repr(key) for key in output) or 'no keys'}"
    if isinstance(output, tuple | list):
        return f"a {type(output).__name__} of {len(output)}"
    return f"a {type(output).__name__}"
