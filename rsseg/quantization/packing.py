"""Quantised networks in files: K bits for each weight, and the bases that give them their values.

A packed file is a .safetensors file. A quantised weight lies in it as the numbers of its levels,
K bits each, under its name and ".codes"; the basis is there as in a checkpoint, and so is all that
is not quantised. `rsseg.load_checkpoint` reads such a file as well; its network has the very
outputs of the one that was packed, but no full-precision weights to train on.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from rsseg.common.checkpoint import CheckpointError, load_weights
from rsseg.common.file_kinds import (
    CHECKPOINTS,
    PACKED_FORMAT,
    FileKind,
    file_kind,
    wrong_kind_message,
)
from rsseg.common.files import check_output, written_whole
from rsseg.common.state_files import State
from rsseg.quantization.convert import (
    FLOAT,
    QuantizedConv2d,
    default_convolutions,
    quantized_convolutions,
)
from rsseg.quantization.quantizer import BITS, Quantizer
from rsseg.switchable.convert import held_sets, trained_sets
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.step_scopes import paused

FORMAT: Final = PACKED_FORMAT
SUFFIX: Final = ".safetensors"
_CODES: Final = ".codes"
_COUNTER: Final = 8  # bytes of a quantiser's number of updates
_NOT_PACKED: Final = (
    FileKind.FOLDER,
    FileKind.EMPTY,
    FileKind.EXPORTED,
    FileKind.EXECUTORCH,
    FileKind.OPENVINO,
    FileKind.OTHER_ONNX,
)


def pack_numbers(numbers: Tensor, bits: int) -> Tensor:
    """Pack numbers 0..2^bits - 1 of any shape into bytes, the lowest bit of the first one first.

    Example:
        >>> pack_numbers(torch.tensor([1, 2, 3, 0, 1]), 2).tolist()
        [57, 1]
    """
    flat = numbers.to(torch.uint8).flatten().numpy()
    digits = (flat[:, None] >> np.arange(bits, dtype=np.uint8)) & 1
    return torch.from_numpy(np.packbits(digits, bitorder="little"))


def unpack_numbers(packed: Tensor, bits: int, count: int) -> Tensor:
    """Undo `pack_numbers`; returns int64 numbers of shape (count,).

    Raises:
        ValueError: If the bytes are not as many as so many numbers take.
    """
    expected = (count * bits + 7) // 8
    if packed.dtype != torch.uint8 or packed.shape != (expected,):
        raise ValueError(
            f"{count} numbers of {bits} bits take {expected} bytes, got {tuple(packed.shape)} of "
            f"{packed.dtype}"
        )
    digits = np.unpackbits(packed.numpy(), bitorder="little", count=count * bits)
    powers = 2 ** np.arange(bits, dtype=np.int64)
    return torch.from_numpy(digits.reshape(count, bits).astype(np.int64) @ powers)


@dataclass(frozen=True)
class PackedSize:
    """What a packed network takes, in bytes.

    Args:
        weights: Number of quantised weights.
        codes: Bytes of their codes.
        bases: Bytes of what gives the codes their values.
        rest: Bytes of all that is not quantised.
    """

    weights: int
    codes: int
    bases: int
    rest: int

    @property
    def total(self) -> int:
        """Bytes of all tensors; a file adds their names."""
        return self.codes + self.bases + self.rest

    @property
    def bits_per_weight(self) -> float:
        """Bits that a quantised weight takes, its share of the bases included."""
        return 8 * (self.codes + self.bases) / self.weights


def packed_state(net: nn.Module) -> State:
    """Return the state dict of a quantised network with packed weights.

    Args:
        net: Network in evaluation mode on the CPU.

    Raises:
        ValueError: If no weight is quantised, or the values of one do not come back to the bit.
    """
    layers = dict(quantized_convolutions(net))
    if not layers:
        raise ValueError("no weight of the network is quantised; there is nothing to pack")
    state = {name: value.detach() for name, value in net.state_dict().items()}
    for name, layer in layers.items():
        quantizer = _quantizer_of(layer)
        with torch.no_grad(), paused(net):
            quantized = layer.quantized_weight()
            again = quantizer(quantized)
        table, rows = _table(quantizer, len(quantized)), quantized.flatten(1)
        codes = torch.searchsorted(table, rows).clamp(max=table.shape[1] - 1)
        if not torch.equal(table.gather(1, codes), rows) or not torch.equal(again, quantized):
            raise ValueError(
                f"the weights of {name} are not finite, or its levels too close to be told apart; "
                "nothing was written"
            )
        del state[f"{name}.weight"]
        state[f"{name}.weight{_CODES}"] = pack_numbers(codes, quantizer.bits)
    return state


def _quantizer_of(layer: QuantizedConv2d) -> Quantizer:
    assert isinstance(layer.weight_quantizer, Quantizer)
    return layer.weight_quantizer


def _table(quantizer: Quantizer, rows: int) -> Tensor:
    return quantizer.level_values().expand(rows, -1).contiguous()


def load_packed_state(net: nn.Module, state: State) -> None:
    """Load what `packed_state` returned into a network built in the same way.

    Raises:
        ValueError: If names, shapes or numbers of bits do not fit.
    """
    packed = {n: v for n, v in state.items() if n.endswith(_CODES)}
    layers = {f"{name}.weight{_CODES}": layer for name, layer in quantized_convolutions(net)}
    if packed.keys() != layers.keys():
        raise ValueError(f"packed weights {sorted(packed.keys() ^ layers.keys())[:3]} do not fit")
    own = net.state_dict()
    weights = {name.removesuffix(_CODES): own[name.removesuffix(_CODES)] for name in packed}
    rest = {name: value for name, value in state.items() if name not in packed}
    load_weights(net, rest | weights, "what is packed")
    for name, layer in layers.items():
        quantizer = _quantizer_of(layer)
        numbers = unpack_numbers(packed[name], quantizer.bits, layer.weight.numel())
        numbers = numbers.view(len(layer.weight), -1)
        with torch.no_grad():
            values = _table(quantizer, len(numbers)).gather(1, numbers)
            layer.weight.copy_(values.view_as(layer.weight))


def packed_size(net: nn.Module) -> PackedSize:
    """Return what a quantised network takes in a packed file; its weights are not read."""
    layers = dict(quantized_convolutions(net))
    parts = {name: f"{name}.weight" for name in layers}
    sizes = {name: _bytes(value) for name, value in net.state_dict().items()}
    bases = sum(
        size
        for key, size in sizes.items()
        if any(key.startswith(f"{name}.weight_quantizer.") for name in layers)
    )
    rest = sum(sizes.values()) - bases - sum(sizes[part] for part in parts.values())
    counts = {name: layer.weight.numel() for name, layer in layers.items()}
    codes = sum(
        (count * _quantizer_of(layers[name]).bits + 7) // 8 for name, count in counts.items()
    )
    return PackedSize(weights=sum(counts.values()), codes=codes, bases=bases, rest=rest)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def save_packed(
    net: SwitchableNet, metadata: dict[str, Any], out: Path, *, overwrite: bool = False
) -> PackedSize:
    """Write a quantised network as a packed file.

    Args:
        net: The network, in evaluation mode on the CPU.
        metadata: As `load_checkpoint` returns it.
        out: Name of the file, which ends in .safetensors.
        overwrite: Write over a file that exists.

    Returns:
        What its parts take.

    Raises:
        ValueError: If the name has another ending or exists, or the network cannot be packed.
        OSError: If the file cannot be written.
    """
    if out.suffix != SUFFIX:
        raise ValueError(f"{out} must end in {SUFFIX}")
    check_output(out, overwrite=overwrite)
    if net.batchnorm == "private" and held_sets(net) != trained_sets(net):
        raise ValueError(
            f"the network holds added BatchNorm sets ({', '.join(held_sets(net))}), which a file "
            "does not tell from trained ones; remove them with remove_set"
        )
    state = {name: value.contiguous() for name, value in packed_state(net).items()}
    described = json.dumps(metadata)
    header = {"format": FORMAT, "metadata": described, "sha256": _digest(state, described)}
    with written_whole(out) as temporary:
        temporary.write_bytes(save(state, metadata=header))
    return packed_size(net)


def _digest(state: State, described: str) -> str:
    """Return the SHA-256 of the description, and of all tensors by name."""
    digest = hashlib.sha256(described.encode())
    for name in sorted(state):
        digest.update(f"{name} {state[name].dtype} {tuple(state[name].shape)}".encode())
        digest.update(state[name].contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_packed(path: Path) -> tuple[State, dict[str, Any]]:
    """Read the tensors of a packed file, and its metadata.

    Raises:
        CheckpointError: If it is missing, damaged, or not a packed file of rsseg.
    """
    kind = file_kind(path)
    if kind is FileKind.MISSING:
        raise CheckpointError(f"there is no checkpoint {path}")
    if kind in _NOT_PACKED:
        raise CheckpointError(wrong_kind_message(path, CHECKPOINTS))
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        known = header.get("format") == FORMAT
        metadata = json.loads(header["metadata"]) if known else None
    except Exception as error:  # damaged files raise errors of many kinds
        raise CheckpointError(
            f"{path} is not a packed network, or is damaged ({type(error).__name__}); pack it "
            "again with rsseg pack"
        ) from error
    if not isinstance(metadata, dict):
        raise CheckpointError(
            f"{path} is not a packed network of rsseg (format '{FORMAT}'); a state dict alone does "
            "not tell resolutions and preprocessing"
        )
    if _digest(state, header["metadata"]) != header.get("sha256"):
        raise CheckpointError(f"{path} is damaged: its content is not what was written")
    return state, metadata


def layout(size: PackedSize, file: int) -> str:
    """Return what a packed network takes as text; `file` is the size of the file in bytes."""
    rows = {
        f"codes of {size.weights:,} weights": size.codes,
        "what gives them values": size.bases,
        "not quantised": size.rest,
        "file": file,
    }
    lines = [f"{what:<32}{number / 1e6:>10.3f} MB" for what, number in rows.items()]
    return "\n".join(
        [*lines, f"a quantised weight takes {size.bits_per_weight:.3f} bits as stored"]
    )


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
    result = {str(FLOAT): sum(sizes.values())}
    if layers:
        rest = sum(size for key, size in sizes.items() if key not in weights)
        for bits in reversed(BITS):
            packed = sum((layer.weight.numel() * bits + 7) // 8 for layer in layers)
            bases = sum(4 * bits * layer.out_channels + _COUNTER for layer in layers)
            result[str(bits)] = rest + packed + bases
    return result


def _weight_quantizers(network: nn.Module) -> list[Quantizer]:
    layers = [layer for _, layer in quantized_convolutions(network)]
    holders = nn.ModuleList(x.weight_quantizer for x in layers if x.weight_quantizer is not None)
    return [layer for layer in holders.modules() if isinstance(layer, Quantizer)]
