"""ONNX Runtime as an executor: exported files of one resolution, or of all.

A file of all resolutions chooses its BatchNorm set from the size of its input, so one session
serves every resolution. Files are written by `export`.

Source: https://onnxruntime.ai/docs/api/python/api_summary.html; a session may run in several
threads at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from rsseg.common.allocator import return_memory
from rsseg.common.cores import default_threads
from rsseg.common.extras import import_extra
from rsseg.common.messages import first_line
from rsseg.runtime.description import KEY, Description, parse
from rsseg.runtime.protocol import Logits, Views, check_views, view_size_error

INPUT: Final = "images"
OUTPUT: Final = "logits"
ERRORS_ONLY: Final = 3  # of ONNX Runtime's log severities


@dataclass(frozen=True)
class Contract:
    """Checks which views an exported file takes.

    Args:
        description: Of its network.
        shape: Of its input, None where any size is taken.
    """

    description: Description
    shape: tuple[int | None, ...]

    def check(self, images: Views, resolution: int) -> None:
        """Check that the file computes a resolution for these views.

        Raises:
            ValueError: If it does not.
        """
        check_views(images)
        description, side = self.description, min(images.shape[-2:])
        if description.layout == "one" and resolution != description.resolution:
            raise ValueError(
                f"this file holds resolution {description.resolution} alone, got {resolution}; "
                "export all resolutions into one file, or open the file of that resolution"
            )
        by_size = description.layout == "all" and description.batchnorm == "private"
        if by_size and side != resolution:
            raise ValueError(
                f"this file takes its BatchNorm set from the size of the view, whose shorter side "
                f"is {side}; expected resolution {resolution}"
            )
        # Not every executor compares them itself.
        if any(
            expected not in (None, side)
            for expected, side in zip(self.shape, images.shape, strict=True)
        ):
            raise ValueError(
                f"this file takes views of shape {self.shape}, None for any, got {images.shape}"
            )


class OnnxExecutor:
    """ONNX Runtime with one session for all resolutions that the file holds.

    Args:
        session: An `onnxruntime.InferenceSession` of an exported file.
        contract: Of the file.
    """

    name = "onnxruntime"
    device = "cpu"

    def __init__(self, session: Any, contract: Contract) -> None:
        self._session = session
        self._contract = contract
        self.resolutions = contract.description.usable

    def logits(self, images: Views, resolution: int) -> Logits:
        """Compute the logits of a batch, see `Executor`."""
        self._contract.check(images, resolution)
        try:
            (logits,) = self._session.run([OUTPUT], {INPUT: np.ascontiguousarray(images)})
        except Exception as error:  # Its errors have no common class.
            raise ValueError(view_size_error(resolution, images, error)) from error
        computed: Logits = logits
        return computed


def open_onnx(
    path: Path, *, threads: int | None, device: str, unseen: str | None = None
) -> tuple[OnnxExecutor, Description]:
    """Open an exported file with ONNX Runtime.

    Args:
        path: The file.
        threads: Threads that compute one image; default: as many as PyTorch.
        device: "cpu" or "auto", which is the same here.
        unseen: Rule for untrained resolutions; default: the one in the file, which has no other.

    Raises:
        ImportError: If ONNX Runtime is not installed.
        ValueError: If the file is damaged, or was not written by `rsseg export`.
        OSError: If there is no such file.
    """
    onnxruntime = import_extra("onnxruntime")
    check_file(path, device, OnnxExecutor.name)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    # As many as PyTorch, which heeds OMP_NUM_THREADS: executors differ in nothing else.
    options.intra_op_num_threads = threads or default_threads()
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # Its errors have no common class.
        raise ValueError(unreadable_message(path, error)) from error
    text = session.get_modelmeta().custom_metadata_map.get(KEY)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    names = [[node.name for node in nodes] for nodes in (inputs, outputs)]
    description = read_description(path, text, *names)
    check_unseen(path, unseen, description)
    shape = tuple(side if isinstance(side, int) else None for side in inputs[0].shape)
    return_memory()  # What optimising the graph has used is more than what the session keeps.
    return OnnxExecutor(session, Contract(description, shape)), description


def check_file(path: Path, device: str, executor: str) -> None:
    """Check device and file before an exported file is opened.

    Raises:
        ValueError: If the device is another than the CPU.
        OSError: If there is no such file.
    """
    if device not in ("cpu", "auto"):
        raise ValueError(f"executor {executor} runs on the CPU here, got device '{device}'")
    with path.open("rb"):
        pass


def check_unseen(path: Path, rule: str | None, description: Description) -> None:
    """Check that a file computes untrained resolutions by a rule.

    Raises:
        ValueError: If another rule is wanted than the one in the file.
    """
    if rule not in (None, description.unseen):
        raise ValueError(
            f"{path} computes untrained resolutions by the rule '{description.unseen}' that it was "
            f"exported with, not by '{rule}'; leave the rule out, or give the checkpoint"
        )


def unreadable_message(path: Path, error: Exception) -> str:
    """Return the message that a file is not an ONNX file that can be run."""
    return f"{path} is not an ONNX file that can be run ({first_line(error)}); export it again"


def read_description(
    path: Path, text: str | None, inputs: list[str], outputs: list[str]
) -> Description:
    """Read the description in an exported file.

    Args:
        path: The file.
        text: The description in it, None if there is none.
        inputs: Names of its inputs.
        outputs: Names of its outputs.

    Raises:
        ValueError: If the file was not written by `rsseg export`.
    """
    if text is None or inputs != [INPUT] or outputs != [OUTPUT]:
        raise ValueError(
            f"{path}: an ONNX file with the inputs {inputs}, the outputs {outputs} and "
            f"{'no' if text is None else 'a'} description; expected one that `rsseg export` wrote"
        )
    return parse(text, path)
