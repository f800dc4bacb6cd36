"""From a file to an executor and the description of its network: one entry for each executor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rsseg.common.file_kinds import (
    CHECKPOINTS,
    NETWORKS,
    FileKind,
    file_kind,
    wrong_kind_message,
)
from rsseg.runtime.description import Description
from rsseg.runtime.fixed_shapes.executorch import open_executorch
from rsseg.runtime.fixed_shapes.openvino import open_openvino_folder
from rsseg.runtime.onnx.executor import open_onnx
from rsseg.runtime.onnx.openvino import open_openvino
from rsseg.runtime.protocol import Executor

Opened = tuple[Executor, Description]


def _open_torch(path: Path, **options: Any) -> Opened:
    from rsseg.runtime.checkpoints import open_torch  # noqa: PLC0415 It loads PyTorch.

    return open_torch(path, **options)


def _open_openvino(path: Path, **options: Any) -> Opened:
    """Open a folder of OpenVINO's own models, or an ONNX file, with OpenVINO."""
    return (open_openvino_folder if path.is_dir() else open_openvino)(path, **options)


@dataclass(frozen=True)
class Opener:
    """How an executor opens files.

    Args:
        kinds: The kinds of file that it takes.
        open: Opens one; called with the path, threads, device and the rule for untrained
            resolutions, for checkpoints with `allow_builder` as well.
    """

    kinds: tuple[FileKind, ...]
    open: Callable[..., Opened]


MOST_THREADS: Final = 1024  # Executors start as many as they are told, and hang.
# The first one that takes a file opens it where no executor is named.
EXECUTORS: Final[dict[str, Opener]] = {
    "torch": Opener(CHECKPOINTS, _open_torch),
    "onnxruntime": Opener((FileKind.EXPORTED,), open_onnx),
    "openvino": Opener((FileKind.EXPORTED, FileKind.OPENVINO), _open_openvino),
    "executorch": Opener((FileKind.EXECUTORCH,), open_executorch),
}


def natural_executor(path: Path) -> str:
    """Return the name of the executor that opens a file where none is named.

    Raises:
        ValueError: If it is not a file that an executor takes.
        OSError: If it does not exist or cannot be read.
    """
    kind = file_kind(path)
    for name, opener in EXECUTORS.items():
        if kind in opener.kinds:
            return name
    raise _wrong_kind(path, NETWORKS)


def takes(executor: str, path: Path) -> bool:
    """Return whether an executor takes files of this kind; False for an unknown executor."""
    return executor in EXECUTORS and file_kind(path) in EXECUTORS[executor].kinds


def open_executor(
    path: Path,
    name: str | None = None,
    *,
    threads: int | None = None,
    device: str = "cpu",
    unseen: str | None = None,
    allow_builder: bool = False,
) -> Opened:
    """Open a file with an executor.

    Args:
        path: A checkpoint (.pt, packed .safetensors) or what `rsseg export` wrote (.onnx, .pte, a
            folder of OpenVINO models).
        name: "torch", "onnxruntime", "openvino" or "executorch"; default: the one that
            is natural for the file.
        threads: Threads that compute one image; default: as many as PyTorch.
        device: "cpu"; PyTorch also takes "auto" and "cuda".
        unseen: Rule for untrained resolutions, "interpolate", "nearest" or "extrapolate";
            default: the network's. An exported file has no other.
        allow_builder: See `rsseg.load_checkpoint`; an exported file holds its network.

    Raises:
        ValueError: If something given is not valid, or the file cannot be used.
        ImportError: If the executor is not installed.
        OSError: If the file does not exist or cannot be read.
    """
    if name is not None and name not in EXECUTORS:
        raise ValueError(f"unknown executor '{name}'; expected one of {', '.join(EXECUTORS)}")
    natural = natural_executor(path)
    opener = EXECUTORS[name or natural]
    if file_kind(path) not in opener.kinds:
        raise ValueError(f"executor {name}: {wrong_kind_message(path, opener.kinds)}")
    if threads is not None:
        check_threads(threads)
    options = {"allow_builder": allow_builder} if opener.kinds == CHECKPOINTS else {}
    return opener.open(path, threads=threads, device=device, unseen=unseen, **options)


def check_threads(threads: int) -> None:
    """Raise a ValueError unless so many threads can compute one image."""
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    if threads > MOST_THREADS:
        raise ValueError(f"threads must be at most {MOST_THREADS}, got {threads}")


def _wrong_kind(path: Path, expected: tuple[FileKind, ...]) -> Exception:
    error = ValueError if path.exists() else FileNotFoundError
    return error(wrong_kind_message(path, expected))
