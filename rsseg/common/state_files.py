"""Files that hold a state dict, read without running code.

What training scripts write beside the weights (their settings, numbers and arrays of numpy, paths,
dates) is read by an allow-list of plain values, arrays without their content; a file that names
anything else is refused as a whole.
"""

from __future__ import annotations

import argparse
import datetime
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Final

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from rsseg.common.checkpoint import FORMAT, check_bytes, load_error_message

State = dict[str, Tensor]
_ZIP: Final = b"PK\x03\x04"

# Keys under which training scripts keep the weights. The average of the weights comes first, as in
# timm's own loader (`use_ema`): it is what those scripts evaluate.
AVERAGES: Final = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
WRAPPERS: Final = (
    *AVERAGES,
    *("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights"),
    "checkpoint",
)
_DEEPEST: Final = 3  # wrappers in wrappers


def _mapping(*_: object, **__: object) -> OrderedDict[Any, Any]:
    """Return an empty mapping in place of a class of mappings, which torch fills."""
    return OrderedDict()


class _Mapping:
    """Stands for classes of mappings: making one makes a plain mapping."""

    def __new__(cls, *_: object) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        return OrderedDict()


class _Array:
    """Stands for arrays of numpy, such as the state of a generator: nothing needs their content."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


def _array(*_: object) -> _Array:
    """Return the stand-in of an array that torch would have numpy make."""
    return _Array()


# The scalars of numpy and what describes their type.
_NUMPY: Final[dict[str, Any]] = {
    f"numpy.{core}.multiarray.scalar": np.array(0.0)[()].__reduce__()[0]
    for core in ("core", "_core")
}
_TYPES: Final = [getattr(np.dtypes, name) for name in np.dtypes.__all__]
# What may stand beside weights: values that do nothing when they are made.
ALLOWED: Final[list[Callable[..., Any] | tuple[Callable[..., Any], str]]] = [
    argparse.Namespace,
    datetime.date,
    datetime.datetime,
    datetime.time,
    datetime.timedelta,
    datetime.timezone,
    torch.torch_version.TorchVersion,
    np.dtype,
    *_TYPES,
    *((function, name) for name, function in _NUMPY.items()),
    *((kind, f"builtins.{kind.__name__}") for kind in (int, float, str, bool, list, dict, tuple)),
    (_Array, "numpy.ndarray"),
    *((_array, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    (PurePosixPath, "pathlib.PosixPath"),
    (PureWindowsPath, "pathlib.WindowsPath"),
    (PurePosixPath, "pathlib.PurePosixPath"),
    (PureWindowsPath, "pathlib.PureWindowsPath"),
    (PurePosixPath, "pathlib._local.PosixPath"),
    (PureWindowsPath, "pathlib._local.WindowsPath"),
    (_mapping, "collections.defaultdict"),
    (_Mapping, "lightning.fabric.utilities.data.AttributeDict"),
    (_Mapping, "lightning_fabric.utilities.data.AttributeDict"),
    (_Mapping, "pytorch_lightning.utilities.parsing.AttributeDict"),
]


def read_state(path: Path) -> State:
    """Read a state dict from a .safetensors file or from what torch.save has written.

    Raises:
        ValueError: If the file cannot be read so, or holds something else.
    """
    return read_wrapped(path)[0]


def read_wrapped(path: Path) -> tuple[State, str]:
    """Read a state dict, and the keys of the wrappers that it lay in, such as "state_dict_ema".

    Raises:
        ValueError: If the file cannot be read so, or holds something else.
    """
    try:
        content = _content(path)
    except Exception as error:  # damaged files raise errors of many kinds
        raise ValueError(
            f"{path} cannot be read as a state dict: {load_error_message(error, path)}"
        ) from error
    keys: list[str] = []
    while len(keys) < _DEEPEST:
        key = _wrapper(content)
        if key is None:
            break
        keys.append(key)
        content = content[key]
    if isinstance(content, Mapping) and content.get("format") == FORMAT:
        raise ValueError(f"{path} is a checkpoint of rsseg, not a state dict alone")
    if not isinstance(content, Mapping) or not all(
        isinstance(key, str) and _is_plain(value) for key, value in content.items()
    ):
        raise ValueError(f"{path} must hold a state dict (names to tensors of real numbers)")
    return dict(content), ".".join(keys)


def _wrapper(content: Any) -> str | None:
    """Return the key under which a file keeps its weights, None for weights themselves."""
    if not isinstance(content, Mapping) or content.get("format") == FORMAT:
        return None
    return next((key for key in WRAPPERS if _holds_tensors(content.get(key), _DEEPEST)), None)


def _holds_tensors(content: Any, depth: int) -> bool:
    """Return whether a value holds weights, or wrappers of some: settings have the same names."""
    if not isinstance(content, Mapping):
        return False
    if any(isinstance(value, Tensor) for value in content.values()):
        return True
    return depth > 1 and any(_holds_tensors(content.get(key), depth - 1) for key in WRAPPERS)


def _content(path: Path) -> Any:
    with path.open("rb") as stream:
        start = stream.read(len(_ZIP))
    if path.suffix == ".safetensors":
        return load_file(path)
    if start == _ZIP:  # The older format has no checksums.
        check_bytes(path)
    with warnings.catch_warnings(), torch.serialization.safe_globals(ALLOWED):
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
