"""OpenVINO as an executor of exported ONNX files, on the CPU.

Source: https://docs.openvino.ai/, "OpenVINO Inference Request": a compiled model may be used by
several threads, a request by one at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from rsseg.common.cores import default_threads
from rsseg.common.extras import import_extra
from rsseg.runtime.description import KEY, Description
from rsseg.runtime.onnx.executor import (
    INPUT,
    OUTPUT,
    Contract,
    check_file,
    check_unseen,
    read_description,
    unreadable_message,
)
from rsseg.runtime.protocol import Logits, Views, view_size_error

# By default some processors would compute in bfloat16, with other results than all other executors.
_EXACT: Final = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}


@cache
def core() -> Any:
    """Return the only core of OpenVINO in this process, which is never closed.

    A core gives the thread that first compiles with it a stack for signals, and at its end the
    stack that was there before. Of two that do not end in reverse order the second leaves one that
    is gone, and the next signal (Ctrl-C, a child process that ends) kills the process.

    Raises:
        ImportError: If OpenVINO is not installed.
    """
    return import_extra("openvino").Core()


class OpenvinoExecutor:
    """OpenVINO with one compiled model for all resolutions that the file holds.

    Args:
        model: A compiled model of an exported file.
        contract: Of the file.
    """

    name = "openvino"
    device = "cpu"

    def __init__(self, model: Any, contract: Contract) -> None:
        self._requests = Requests(model)
        self._contract = contract
        self.resolutions = contract.description.usable

    def logits(self, images: Views, resolution: int) -> Logits:
        """Compute the logits of a batch, see `Executor`."""
        self._contract.check(images, resolution)
        try:
            return self._requests.logits(images)
        except Exception as error:  # Its errors are RuntimeErrors and others.
            raise ValueError(view_size_error(resolution, images, error)) from error


class Requests:
    """Runs a compiled model for several threads at once.

    Args:
        model: A compiled model of the input `INPUT` and the output `OUTPUT`.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._idle: deque[Any] = deque()

    def logits(self, images: Views) -> Logits:
        """Return the logits of views that the model takes."""
        with self._request() as request:
            results = request.infer({INPUT: np.ascontiguousarray(images)})
            logits: Logits = np.array(results[OUTPUT], dtype=np.float32)
        return logits

    @contextmanager
    def _request(self) -> Iterator[Any]:
        """Yield a request that no other thread uses; there are as many as threads call at once."""
        try:
            request = self._idle.pop()  # The last one back has its memory ready.
        except IndexError:
            request = self._model.create_infer_request()
        yield request
        self._idle.append(request)  # One that failed is not used again.


def open_openvino(
    path: Path, *, threads: int | None, device: str, unseen: str | None = None
) -> tuple[OpenvinoExecutor, Description]:
    """Open an exported file with OpenVINO.

    Args:
        path: The file.
        threads: Threads that compute one image; default: as many as PyTorch.
        device: "cpu" or "auto", which is the same here.
        unseen: Rule for untrained resolutions; default: the one in the file, which has no other.

    Raises:
        ImportError: If OpenVINO is not installed.
        ValueError: If the file is damaged, or was not written by `rsseg export`.
        OSError: If there is no such file.
    """
    import_extra("openvino")
    check_file(path, device, OpenvinoExecutor.name)
    settings = settings_for(threads)
    try:
        model = core().read_model(str(path))
        text = text_at(model, ["framework", KEY])  # where it keeps the metadata of ONNX files
        names = [[node.any_name for node in nodes] for nodes in (model.inputs, model.outputs)]
        compiled = core().compile_model(model, "CPU", settings)
    except Exception as error:  # Its errors are RuntimeErrors and others.
        raise ValueError(unreadable_message(path, error)) from error
    description = read_description(path, text, *names)
    check_unseen(path, unseen, description)
    sides = model.inputs[0].partial_shape
    shape = tuple(side.get_length() if side.is_static else None for side in sides)
    return OpenvinoExecutor(compiled, Contract(description, shape)), description


def settings_for(threads: int | None) -> dict[str, str]:
    """Return how a model is compiled, for so many threads or as many as PyTorch would."""
    return _EXACT | {"INFERENCE_NUM_THREADS": str(threads or default_threads())}


def text_at(model: Any, place: list[str]) -> str | None:
    """Return a text that a model holds beside its graph, None if there is none."""
    return str(model.get_rt_info(place).astype(str)) if model.has_rt_info(place) else None
