"""From a checkpoint to a file with one model of fixed shape for each resolution.

What was written is opened again and compared with PyTorch before it gets its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import rmtree
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rsseg.common.extras import check_extras
from rsseg.common.file_kinds import FileKind, file_kind
from rsseg.common.files import files_below, size_of, sync, written_whole
from rsseg.common.messages import check_name
from rsseg.load import load_checkpoint
from rsseg.runtime.checkpoints import describe
from rsseg.runtime.description import Description
from rsseg.runtime.fixed_shapes.executorch import open_executorch
from rsseg.runtime.fixed_shapes.openvino import open_openvino_folder
from rsseg.runtime.fixed_shapes.write_executorch import write_executorch
from rsseg.runtime.fixed_shapes.write_openvino import write_openvino
from rsseg.runtime.onnx.check import TOLERANCE, check, check_request, differences
from rsseg.runtime.onnx.export import Export, check_trained
from rsseg.runtime.protocol import Executor
from rsseg.switchable.net import SwitchableNet


@dataclass(frozen=True)
class Format:
    """A format of files with one model of fixed shape for each resolution.

    Args:
        suffix: Of its files, empty for a folder.
        kind: What it is when it has been written.
        packages: That write and run it.
        write: Writes a network with its description to a path, for a folder into an empty one.
        open: Opens it; called with the path, threads and device.
    """

    suffix: str
    kind: FileKind
    packages: tuple[str, ...]
    write: Callable[[SwitchableNet, Description, Path], None]
    open: Callable[..., tuple[Executor, Description]]


FORMATS: Final[dict[str, Format]] = {
    "executorch": Format(
        ".pte", FileKind.EXECUTORCH, ("executorch",), write_executorch, open_executorch
    ),
    "openvino": Format(
        "",
        FileKind.OPENVINO,
        ("openvino", "onnx", "onnxscript"),
        write_openvino,
        open_openvino_folder,
    ),
}


def export_fixed(
    checkpoint: Path,
    out: Path,
    name: str,
    *,
    resolution: int | None = None,
    tolerance: float = TOLERANCE,
    overwrite: bool = False,
    allow_builder: bool = False,
) -> Export:
    """Write the network of a checkpoint in a format of fixed shapes.

    Args:
        checkpoint: Such as `runs/NAME/last.pt`.
        out: File or folder to write.
        name: Of the format, a key of `FORMATS`.
        resolution: The only one in the file; None puts all of them into one.
        tolerance: Largest difference of a logit from PyTorch.
        overwrite: Write over a file, or a folder of this format, that exists.
        allow_builder: See `rsseg.load_checkpoint`.

    Raises:
        ValueError: If something given is not valid, the network cannot be exported, or what was
            written differs from PyTorch by more than the tolerance.
        ImportError: If a package for the format is not installed.
        OSError: If it cannot be written.
    """
    check_name("format", name, FORMATS)
    kind = FORMATS[name]
    _check_arguments(checkpoint, out, kind, tolerance, overwrite=overwrite)
    check_extras(kind.packages)
    net, preprocessing, metadata = load_checkpoint(checkpoint, allow_builder=allow_builder)
    if preprocessing.fit == "aspect":
        raise ValueError(
            f"{checkpoint} keeps the aspect ratio of images (preprocessing.fit: aspect), so its "
            f"views have no fixed shape; use the ONNX file of `rsseg export`"
        )
    description = replace(describe(metadata, checkpoint, unseen=net.unseen), layout="fixed")
    if resolution is not None:
        check_trained(resolution, net, checkpoint)
        description = replace(description, layout="one", resolution=resolution)
    return write_compared(net, description, out, kind, tolerance=tolerance)


def _check_arguments(
    checkpoint: Path, out: Path, kind: Format, tolerance: float, *, overwrite: bool
) -> None:
    """Raise a ValueError for what is wrong before anything is loaded."""
    if out.suffix != kind.suffix:
        wanted = f"ends in {kind.suffix}" if kind.suffix else "has no suffix, for a folder"
        raise ValueError(f"{out}: give a name that {wanted}")
    check_request(checkpoint, out, tolerance, overwrite=overwrite)
    if out.is_dir() != (not kind.suffix) and out.exists():
        raise ValueError(f"{out} {file_kind(out).value}; choose another name")
    if out.is_dir() and file_kind(out) is not kind.kind and any(out.iterdir()):
        raise ValueError(
            f"{out} {file_kind(out).value} that `rsseg export` did not write; choose another name"
        )


def write_compared(
    net: SwitchableNet,
    description: Description,
    out: Path,
    kind: Format,
    *,
    tolerance: float = TOLERANCE,
) -> Export:
    """Write a network, and let it have its name only if it computes what PyTorch does.

    Args:
        net: Network in evaluation mode on the CPU.
        description: Goes into what is written; its usable resolutions become models.
        out: File or folder to write; one that exists is replaced.
        kind: Format.
        tolerance: Largest difference of a logit from PyTorch.

    Raises:
        ValueError: See `export_fixed`.
        OSError: If it cannot be written.
    """
    writing = written_whole if kind.suffix else written_folder
    with writing(out) as temporary:
        kind.write(net, description, temporary)
        executor, _ = kind.open(temporary, threads=None, device="cpu")

        def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
            return executor.logits(images, images.shape[-1])

        compared = differences(net, run, description.usable, untrained=False)
        check(compared, tolerance)
    return Export(out, size_of(out), description, compared)


@contextmanager
def written_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder, which moves to `path` when the `with` block ends well.

    After an error or an interruption it is removed, and a folder that had the name is kept.

    Raises:
        OSError: If it cannot be written.
    """
    temporary, old = (path.with_name(f".{path.name}.{state}") for state in ("part", "old"))
    for left in (temporary, old):  # by an interruption that left no time
        rmtree(left, ignore_errors=True)
    try:
        temporary.mkdir()
        yield temporary
        for file in files_below(temporary):
            sync(file)
        if path.exists():
            path.rename(old)
        temporary.rename(path)
        sync(path.parent)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        for left in (temporary, old):
            rmtree(left, ignore_errors=True)
