"""From a checkpoint to one file that other runtimes run: ONNX, or a program of torch.export.

A file carries a description of its network (classes, preprocessing, resolutions), and is compared
with PyTorch before it gets its name. How the two formats are built is in `onnx_files` and
`program_files`; how files are run later is in `opening`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from rsseg.common.files import check_output, written_whole
from rsseg.load import load_checkpoint
from rsseg.runtime import program_files
from rsseg.runtime.description import Description, describe
from rsseg.runtime.onnx import files as onnx_files
from rsseg.runtime.onnx.check import TOLERANCE, Difference, check, differences
from rsseg.switchable.net import SwitchableNet

ONNX, PT2 = "onnx", "pt2"
FORMATS = (ONNX, PT2)


@dataclass(frozen=True)
class Export:
    """A file that was written.

    Attributes:
        path: The file.
        size: In bytes.
        description: What it says about its network.
        differences: From PyTorch, at each size that was compared.
    """

    path: Path
    size: int
    description: Description
    differences: list[Difference]


def export_checkpoint(
    checkpoint: Path,
    out: Path,
    *,
    resolution: int | None = None,
    kind: str | None = None,
    compact: bool = False,
    tolerance: float = TOLERANCE,
    overwrite: bool = False,
) -> Export:
    """Write the network of a checkpoint as a file for other runtimes.

    Args:
        checkpoint: Such as `runs/NAME/last.pt`.
        out: File to write.
        resolution: The only one in the file; None puts all of them into one ONNX file.
        kind: "onnx" or "pt2"; default: from the suffix of `out`.
        compact: Of a file of all resolutions: less memory, but slower, see `onnx_selecting`.
        tolerance: Largest difference of a logit from PyTorch.
        overwrite: Write over a file that exists.

    Raises:
        ValueError: If something given is not valid, the network cannot be exported, or the file
            differs from PyTorch by more than the tolerance.
        ImportError: If a package for the format is not installed.
        OSError: If the file cannot be written.
    """
    kind = _kind(out, kind)
    if resolution is None and kind == PT2:
        raise ValueError("a file .pt2 holds one resolution: name it; a file .onnx can hold all")
    if resolution is not None and compact:
        raise ValueError("compact is a form of the file of all resolutions, not of one; leave it")
    if out.resolve() == checkpoint.resolve():
        raise ValueError(f"{out} is the checkpoint itself; choose another name")
    if not 0 < tolerance < math.inf:
        raise ValueError(f"tolerance must be a positive number, got {tolerance}")
    check_output(out, overwrite=overwrite)
    if kind == ONNX:
        onnx_files.check_packages()
    net, _, metadata = load_checkpoint(checkpoint)
    told = describe(metadata, checkpoint, unseen=net.unseen)
    if resolution is not None:
        _check_trained(resolution, net, checkpoint)
        told = replace(told, layout="one", resolution=resolution)
    return write_checked(net, told, out, kind=kind, compact=compact, tolerance=tolerance)


def write_checked(
    net: SwitchableNet,
    told: Description,
    out: Path,
    *,
    kind: str,
    compact: bool = False,
    tolerance: float = TOLERANCE,
) -> Export:
    """Write a network, and let the file have its name only if it computes what PyTorch does.

    Args:
        net: Network in evaluation mode on the CPU.
        told: What the file is to say; its layout and resolution decide what is written.
        out: File to write; one that exists is replaced.
        kind: "onnx" or "pt2".
        compact: See `export_checkpoint`.
        tolerance: Largest difference of a logit from PyTorch.

    Raises:
        ValueError: See `export_checkpoint`.
        OSError: If the file cannot be written.
    """
    with written_whole(out) as temporary:
        if kind == ONNX:
            onnx_files.write(net, told, temporary, compact=compact)
            run = onnx_files.runner(temporary)
        else:
            program_files.write(net, told, temporary)
            run = program_files.runner(temporary)
        found = differences(net, run, told.usable, untrained=told.layout == "all")
        check(found, tolerance)
    return Export(out, out.stat().st_size, told, found)


def _kind(out: Path, given: str | None) -> str:
    kind = out.suffix[1:] if given is None else given
    if kind not in FORMATS:
        raise ValueError(
            f"unknown format '{kind}' for {out}; expected one of {', '.join(FORMATS)}, or a file "
            "with such a suffix"
        )
    return kind


def _check_trained(resolution: int, net: SwitchableNet, checkpoint: Path) -> None:
    if resolution not in net.resolutions:
        sides = ", ".join(map(str, dict.fromkeys(net.resolutions)))
        raise ValueError(
            f"{checkpoint} was not trained at resolution {resolution}; a file of one resolution "
            f"is for one of {sides}, the file of all takes others as well"
        )
