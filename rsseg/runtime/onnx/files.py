"""ONNX files: written with their description, and run by ONNX Runtime for comparison.

What is in the models is decided in `onnx_models`.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rsseg.common.config import plain
from rsseg.runtime.description import KEY, Description
from rsseg.runtime.onnx.check import Run
from rsseg.runtime.onnx.model import OUTPUT, model_of_all, model_of_one
from rsseg.runtime.onnx.program import Sides
from rsseg.runtime.onnx.select import INPUT
from rsseg.switchable.net import SwitchableNet

_PACKAGES: Final = ("onnx", "onnxscript", "onnxruntime")
_LARGEST: Final = 2**31 - 1  # bytes of a protobuf message, which an ONNX file is
_ERRORS_ONLY: Final = 3  # of ONNX Runtime's levels of its own log


def check_packages() -> None:
    """Check that what writes and runs ONNX files is installed.

    Raises:
        ImportError: If it is not; says what to install.
    """
    for name in _PACKAGES:
        if importlib.util.find_spec(name) is None:
            raise ImportError(f"{name} is not installed; pip install 'rsseg[onnx]'")


def write(net: SwitchableNet, told: Description, path: Path, *, compact: bool = False) -> None:
    """Write a network as an ONNX file.

    Args:
        net: Network in evaluation mode on the CPU.
        told: What the file says; its layout and resolution decide what is in it.
        path: File to write.
        compact: See `onnx_selecting`.

    Raises:
        ValueError: If the network cannot be exported.
    """
    if told.resolution is None:
        model = model_of_all(net, compact=compact)
    else:
        # Only a view of "aspect" has other sides than the resolution; fixed ones are faster.
        sides: Sides = "any" if told.preprocessing.fit == "aspect" else "fixed"
        model = model_of_one(net, told.resolution, sides=sides)
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, json.dumps(plain(told))
    if model.ByteSize() > _LARGEST:
        raise ValueError(
            f"the network takes {model.ByteSize() / 2**30:.1f} GiB, but an ONNX file ends at 2; "
            "write a file .pt2"
        )
    _check(model)
    path.write_bytes(model.SerializeToString())


def _check(model: Any) -> None:
    import onnx  # noqa: PLC0415 An extra.

    onnx.checker.check_model(model)


def runner(path: Path) -> Run:
    """Open an ONNX file, to be run once or twice."""
    import onnxruntime  # noqa: PLC0415 An extra.

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        (logits,) = session.run([OUTPUT], {INPUT: images})
        computed: NDArray[np.float32] = logits
        return computed

    return run
