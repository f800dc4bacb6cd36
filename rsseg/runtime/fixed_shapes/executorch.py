"""ExecuTorch as an executor of its programs (.pte), which are written by `write_executorch`.

The description of the network is a method that returns it.

Source: https://docs.pytorch.org/executorch/stable/, "Runtime Python API Reference".
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np

from rsseg.common.cores import default_threads
from rsseg.common.extras import import_extra
from rsseg.common.messages import first_line
from rsseg.runtime.description import KEY, Description, parse
from rsseg.runtime.fixed_shapes.executor import FixedShapesExecutor, Model
from rsseg.runtime.onnx.executor import check_file, check_unseen
from rsseg.runtime.protocol import Logits, Views

NAME: Final = "executorch"
_LOGGERS: Final = ("torch.utils._pytree", "executorch")


def method_of(description: Description, resolution: int) -> str:
    """Return the name of the method of a resolution.

    A file of one resolution has the method `forward`, which ExecuTorch's own tools look for.
    """
    return "forward" if description.layout == "one" else f"forward_{resolution}"


def open_executorch(
    path: Path, *, threads: int | None, device: str, unseen: str | None = None
) -> tuple[FixedShapesExecutor, Description]:
    """Open a program with ExecuTorch's runtime in Python.

    Args:
        path: The file.
        threads: Threads that compute one image, of which ExecuTorch has one number for the whole
            process; default: as many as PyTorch.
        device: "cpu" or "auto", which is the same here.
        unseen: Rule for untrained resolutions; there are none in the file.

    Raises:
        ImportError: If ExecuTorch is not installed.
        ValueError: If the file is damaged, or was not written by `rsseg export`.
        OSError: If there is no such file.
    """
    import_extra(NAME)
    check_file(path, device, NAME)
    with quiet():
        runtime = import_module("executorch.runtime").Runtime.get()
        pool = import_module("executorch.extension.pybindings.portable_lib")
    count = threads or default_threads()
    if pool._threadpool_get_thread_count() != count:
        pool._unsafe_reset_threadpool(count)
    try:
        program = runtime.load_program(path)
        has_description = KEY in program.method_names
        text = program.load_method(KEY).execute([])[0] if has_description else None
    except Exception as error:  # Its errors have no common class.
        raise ValueError(
            f"{path} is not an ExecuTorch program that can be run ({first_line(error)}); "
            "export it again"
        ) from error
    description = _description(path, text, program.method_names)
    check_unseen(path, unseen, description)
    # The methods of a program share their memory, so one call at a time.
    lock = threading.Lock()
    return FixedShapesExecutor(
        NAME, description, lambda side: _model(program, method_of(description, side), lock)
    ), description


def _description(path: Path, text: object, methods: set[str]) -> Description:
    """Read the description in a program.

    Raises:
        ValueError: If the file was not written by `rsseg export`.
    """
    if not isinstance(text, str):
        raise ValueError(
            f"{path}: an ExecuTorch program with the methods {', '.join(sorted(methods))} and no "
            "description; expected one that `rsseg export` wrote"
        )
    description = parse(text, path)
    missing = {method_of(description, side) for side in description.usable} - methods
    if missing:
        raise ValueError(
            f"{path}: an ExecuTorch program without the methods {', '.join(sorted(missing))} of "
            "its description; export it again"
        )
    return description


def _model(program: Any, method: str, lock: threading.Lock) -> Model:
    with lock:
        loaded = program.load_method(method)

    torch = import_module("torch")  # ExecuTorch has loaded it.

    def run(view: Views) -> Logits:
        image = torch.from_numpy(np.require(view, requirements=["C", "W"]))
        with lock:
            (logits,) = loaded.execute([image])
            computed: Logits = logits.numpy().copy()
        return computed

    return run


@contextmanager
def quiet() -> Iterator[None]:
    """Keep warnings that its interface may change, and its progress, from the reader."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
