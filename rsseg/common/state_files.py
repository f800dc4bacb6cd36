"""Files that hold a state dict, read without running code."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file
from torch import Tensor

from rsseg.common.checkpoint import check_bytes, load_error_message

State = dict[str, Tensor]
_ZIP: Final = b"PK\x03\x04"


def read_state(path: Path) -> State:
    """Read a state dict from a .safetensors file or from what torch.save has written.

    Raises:
        ValueError: If the file cannot be read so, or holds something else.
    """
    try:
        content = _content(path)
    except Exception as error:  # damaged files raise errors of many kinds
        raise ValueError(
            f"{path} cannot be read as a state dict: {load_error_message(error)}"
        ) from error
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(
        isinstance(key, str) and _is_plain(value) for key, value in content.items()
    ):
        raise ValueError(f"{path} must hold a state dict (names to tensors of real numbers)")
    return dict(content)


def _content(path: Path) -> Any:
    with path.open("rb") as stream:
        start = stream.read(len(_ZIP))
    if path.suffix == ".safetensors":
        return load_file(path)
    if start == _ZIP:  # The older format has no checksums.
        check_bytes(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # What torch says about foreign files, we say.
        return torch.load(path, map_location="cpu", weights_only=True)


def _is_plain(value: object) -> bool:
    """Return whether a value is a tensor that can be copied into a network's."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not (value.is_quantized or value.is_complex())
    )
