"""What the weights of a network take in a file, at each number of bits for a weight."""

from __future__ import annotations

from torch import nn

from rsseg.quantization.convert import FLOAT, default_convolutions
from rsseg.quantization.quantizer import BITS, Quantizer

_COUNTER = 8  # Bytes of a quantiser's number of updates.


def stored_sizes(network: nn.Module) -> dict[str, int]:
    """Return the bytes of a network's tensors by the bits of a quantised weight.

    "32" is the network as floats. With 1 to 4 bits all convolutions but the first are packed, each
    with one basis of LQ-Nets for every output channel; the rest stays as it is. For a network that
    is quantised already, what quantises its activations is counted with the rest.

    Args:
        network: Any network; no value is read.

    Example:
        >>> two = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, bias=False))
        >>> stored_sizes(two)["2"]  # 224 floats; 576 codes, 8 bases of 2 floats, a counter
        1112
    """
    layers = default_convolutions(network)
    own = {
        id(v)
        for layer in _weight_quantizers(network)
        for v in [*layer.parameters(), *layer.buffers()]
    }
    weights = {id(layer.weight) for layer in layers}
    tensors = {id(v): v for v in [*network.parameters(), *network.buffers()]}
    kept = {key: v for key, v in tensors.items() if key not in own}
    sizes = {key: v.numel() * v.element_size() for key, v in kept.items()}
    found = {str(FLOAT): sum(sizes.values())}
    if layers:
        rest = sum(size for key, size in sizes.items() if key not in weights)
        for bits in reversed(BITS):
            packed = sum((layer.weight.numel() * bits + 7) // 8 for layer in layers)
            bases = sum(4 * bits * layer.out_channels + _COUNTER for layer in layers)
            found[str(bits)] = rest + packed + bases
    return found


def _weight_quantizers(network: nn.Module) -> list[Quantizer]:
    found = (getattr(layer, "weight_quantizer", None) for layer in network.modules())
    holders = nn.ModuleList(layer for layer in found if layer is not None)
    return [layer for layer in holders.modules() if isinstance(layer, Quantizer)]
