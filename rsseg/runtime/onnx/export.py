"""From a checkpoint to one ONNX file that other runtimes run.

A file carries a description of its network (classes, preprocessing, resolutions), and is compared
with PyTorch before it gets its name. What is in the model is decided in `model`; how files are run
later is in `executor`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rsseg.common.extras import check_extras
from rsseg.common.files import written_whole
from rsseg.load import load_checkpoint
from rsseg.runtime.checkpoints import describe
from rsseg.runtime.description import Description
from rsseg.runtime.onnx.calibration import (
    Agreement,
    CalibrationViews,
    agreement,
    calibration_images,
)
from rsseg.runtime.onnx.check import TOLERANCE, Difference, Run, check, check_request, differences
from rsseg.runtime.onnx.executor import ERRORS_ONLY, INPUT, OUTPUT
from rsseg.runtime.onnx.int8 import RULE, integer_model
from rsseg.runtime.onnx.label import label
from rsseg.runtime.onnx.model import Sides, model_of_all, model_of_one
from rsseg.switchable.net import SwitchableNet

SUFFIX: Final = ".onnx"
_PACKAGES: Final = ("onnx", "onnxscript", "onnxruntime")
_LARGEST: Final = 2**31 - 1  # bytes of a protobuf message, which an ONNX file is


@dataclass(frozen=True)
class Export:
    """A file that was written.

    Attributes:
        path: The file.
        size: In bytes.
        description: What it says about its network.
        differences: From PyTorch, at each size that was compared.
        agreements: The same of a file of 8 bits, which is compared on images instead.
    """

    path: Path
    size: int
    description: Description
    differences: Sequence[Difference] = ()
    agreements: Sequence[Agreement] = ()


def export_checkpoint(
    checkpoint: Path,
    out: Path,
    *,
    resolution: int | None = None,
    compact: bool = False,
    calibrate: Path | None = None,
    tolerance: float = TOLERANCE,
    overwrite: bool = False,
    allow_builder: bool = False,
) -> Export:
    """Write the network of a checkpoint as an ONNX file.

    Args:
        checkpoint: Such as `runs/NAME/last.pt`.
        out: File to write, of the suffix .onnx.
        resolution: The only one in the file; None puts all of them into one.
        compact: Of a file of all resolutions: less memory, but slower, see `select`.
        calibrate: Folder of images; with it, weights and activations have 8 bits, see `int8`.
        tolerance: Largest difference of a logit from PyTorch; not for 8 bits, which are compared
            on the images.
        overwrite: Write over a file that exists.
        allow_builder: See `rsseg.load_checkpoint`.

    Raises:
        ValueError: If something given is not valid, the network cannot be exported, or the file
            differs from PyTorch by more than the tolerance.
        ImportError: If a package for ONNX is not installed.
        OSError: If the file cannot be written.
    """
    _check_arguments(checkpoint, out, resolution, tolerance, compact=compact, overwrite=overwrite)
    if compact and calibrate is not None:
        raise ValueError("a file of 8 bits has a branch for each resolution; leave --compact out")
    images = None if calibrate is None else calibration_images(calibrate)
    check_extras(_PACKAGES)
    net, _, metadata = load_checkpoint(checkpoint, allow_builder=allow_builder)
    description = describe(metadata, checkpoint, unseen=net.unseen)
    if resolution is not None:
        check_trained(resolution, net, checkpoint)
        description = replace(description, layout="one", resolution=resolution)
    if images is not None:
        views = CalibrationViews(images, description.preprocessing)
        return write_integers(net, description, out, views)
    return write_checked(net, description, out, compact=compact, tolerance=tolerance)


def _check_arguments(
    checkpoint: Path,
    out: Path,
    resolution: int | None,
    tolerance: float,
    *,
    compact: bool,
    overwrite: bool,
) -> None:
    """Raise a ValueError for what is wrong before anything is loaded."""
    if out.suffix != SUFFIX:
        raise ValueError(f"{out}: files are exported as ONNX; give a name that ends in {SUFFIX}")
    if resolution is not None and compact:
        raise ValueError("compact is a form of the file of all resolutions, not of one; leave it")
    check_request(checkpoint, out, tolerance, overwrite=overwrite)


def write_checked(
    net: SwitchableNet,
    description: Description,
    out: Path,
    *,
    compact: bool = False,
    tolerance: float = TOLERANCE,
) -> Export:
    """Write a network, and let the file have its name only if it computes what PyTorch does.

    Args:
        net: Network in evaluation mode on the CPU.
        description: Goes into the file; its layout and resolution decide what is written.
        out: File to write; one that exists is replaced.
        compact: See `export_checkpoint`.
        tolerance: Largest difference of a logit from PyTorch.

    Raises:
        ValueError: See `export_checkpoint`.
        OSError: If the file cannot be written.
    """
    with written_whole(out) as temporary:
        write(net, description, temporary, compact=compact)
        untrained = description.layout == "all"
        compared = differences(net, runner(temporary), description.usable, untrained=untrained)
        check(compared, tolerance)
    return Export(out, out.stat().st_size, description, compared)


def write_integers(
    net: SwitchableNet, description: Description, out: Path, views: CalibrationViews
) -> Export:
    """Write a network with weights and activations of 8 bits, and compare it on images.

    Args:
        net: Network in evaluation mode on the CPU.
        description: Of the network; its layout and resolution decide what is written.
        out: File to write; one that exists is replaced.
        views: Of the images to calibrate with.

    Raises:
        ValueError: If the network cannot be exported, or the file's logits are not finite.
        OSError: If the file cannot be written.
    """
    unseen = description.unseen if description.layout == "one" else RULE
    description = replace(description, bits=8, unseen=unseen)
    with written_whole(out) as temporary:
        save(integer_model(net, description, views.batches), description, temporary)
        run = runner(temporary)
        compared = [agreement(net, run, views, side) for side in description.usable]
    return Export(out, out.stat().st_size, description, agreements=compared)


def write(
    net: SwitchableNet, description: Description, path: Path, *, compact: bool = False
) -> None:
    """Write a network as an ONNX file, without comparing it.

    Args:
        net: Network in evaluation mode on the CPU.
        description: Goes into the file; its layout and resolution decide what else does.
        path: File to write.
        compact: See `select`.

    Raises:
        ValueError: If the network cannot be exported.
    """
    save(_model(net, description, compact=compact), description, path)


def save(model: Any, description: Description, path: Path) -> None:
    """Write a model as a file that tells what it is.

    Raises:
        ValueError: If it is larger than an ONNX file can be, or not a valid model.
    """
    import onnx  # noqa: PLC0415 An extra.

    label(model, description)
    if model.ByteSize() > _LARGEST:
        raise ValueError(
            f"the network takes {model.ByteSize() / 2**30:.1f} GiB, but an ONNX file ends at 2; "
            "use the checkpoint"
        )
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def _model(net: SwitchableNet, description: Description, *, compact: bool) -> Any:
    if description.resolution is None:
        return model_of_all(net, compact=compact)
    # Only a view of "aspect" has other sides than the resolution; fixed ones are faster.
    sides: Sides = "any" if description.preprocessing.fit == "aspect" else "fixed"
    return model_of_one(net, description.resolution, sides=sides)


def runner(path: Path) -> Run:
    """Open an ONNX file, to be run once or twice."""
    import onnxruntime  # noqa: PLC0415 An extra.

    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERRORS_ONLY
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(images: NDArray[np.float32]) -> NDArray[np.float32]:
        (logits,) = session.run([OUTPUT], {INPUT: images})
        computed: NDArray[np.float32] = logits
        return computed

    return run


def check_trained(resolution: int, net: SwitchableNet, checkpoint: Path) -> None:
    """Raise a ValueError unless a network was trained at a resolution."""
    if resolution not in net.resolutions:
        sides = ", ".join(map(str, dict.fromkeys(net.resolutions)))
        raise ValueError(
            f"{checkpoint} was not trained at resolution {resolution}; a file of one resolution "
            f"is for one of {sides}, the file of all takes others as well"
        )
