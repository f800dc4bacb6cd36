"""OpenVINO's own format: a folder with one model of fixed shape for each resolution, weights once.

`R.xml` is the model of resolution R, `weights.bin` holds the constants of all of them: each once,
found by the place that the models name. Compiling a model for a processor folds its BatchNorms
into its convolutions, in memory. OpenVINO itself reads one with
`core.read_model("FOLDER/224.xml", "FOLDER/weights.bin")`.

Source: https://docs.openvino.ai/, "OpenVINO IR format", "NPU Device".
"""

from __future__ import annotations

import hashlib
import io
import json
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, Final
from xml.etree import ElementTree

from torch.export import ExportedProgram

from rsseg.common.config import plain
from rsseg.common.extras import import_extra
from rsseg.common.file_kinds import OPENVINO_WEIGHTS
from rsseg.common.messages import first_line
from rsseg.runtime.description import KEY, Description, parse
from rsseg.runtime.fixed_shapes.executor import FixedShapesExecutor, Model
from rsseg.runtime.fixed_shapes.programs import programs_of
from rsseg.runtime.onnx.executor import check_file, check_unseen
from rsseg.runtime.onnx.model import model_of_graph
from rsseg.runtime.onnx.openvino import Requests, settings_for, text_at
from rsseg.switchable.net import SwitchableNet

NAME: Final = "openvino"
_ALIGNMENT: Final = 64  # bytes, the longest vector of a processor


def write_openvino(net: SwitchableNet, description: Description, folder: Path) -> None:
    """Write a network as a folder of OpenVINO models, without comparing it.

    Args:
        net: Network in evaluation mode on the CPU.
        description: Goes into each model; its usable resolutions become models.
        folder: Folder to write into; it exists and is empty.

    Raises:
        ValueError: If the network cannot be exported.
        ImportError: If OpenVINO or what writes ONNX files is not installed.
    """
    openvino = import_extra(NAME)
    text = json.dumps(plain(description))
    with (
        (folder / OPENVINO_WEIGHTS).open("wb") as stream,
        TemporaryDirectory(dir=folder) as temporary,
    ):
        weights = _Weights(stream)
        for side, program in programs_of(net, description.usable).items():
            alone = Path(temporary, f"{side}.xml")
            openvino.serialize(_model(openvino, program, text), str(alone))
            weights.share(alone, folder / alone.name)


def _model(openvino: Any, program: ExportedProgram, text: str) -> Any:
    """Convert a graph to a model of OpenVINO that has not been optimised for any processor."""
    passes = import_module("openvino.passes")
    proto = model_of_graph(program)
    try:
        # By way of ONNX: OpenVINO's reader of PyTorch folds products into convolutions at once.
        model = openvino.Core().read_model(io.BytesIO(proto.SerializeToString()))
    except Exception as error:  # Its errors are RuntimeErrors and others.
        raise ValueError(f"OpenVINO cannot take the network: {first_line(error)}") from error
    manager = passes.Manager()
    manager.register_pass(passes.ConstantFolding())  # Shapes are known: half of the nodes go.
    manager.run_passes(model)
    model.set_rt_info(text, [KEY])
    return model


class _Weights:
    """Writes the constants of several models into one file, equal ones once.

    Args:
        stream: The file.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._offsets: dict[bytes, int] = {}

    def share(self, model: Path, path: Path) -> None:
        """Write a model to another path, with its constants in the shared file.

        Args:
            model: The model (.xml), with its constants beside it (.bin).
            path: Where the model is written to.
        """
        tree = ElementTree.parse(model)
        constants = memoryview(model.with_suffix(".bin").read_bytes())
        for data in tree.iterfind(".//layer[@type='Const']/data"):
            start, size = int(data.attrib["offset"]), int(data.attrib["size"])
            data.set("offset", str(self._offset(constants[start : start + size])))
        tree.write(path, encoding="utf-8", xml_declaration=True)

    def _offset(self, constant: memoryview) -> int:
        """Return where a constant lies, which is written if it is a new one."""
        digest = hashlib.sha256(constant).digest()
        if digest not in self._offsets:
            self._stream.write(bytes(-self._stream.tell() % _ALIGNMENT))
            self._offsets[digest] = self._stream.tell()
            self._stream.write(constant)
        return self._offsets[digest]


def open_openvino_folder(
    path: Path, *, threads: int | None, device: str, unseen: str | None = None
) -> tuple[FixedShapesExecutor, Description]:
    """Open a folder of OpenVINO models.

    Args:
        path: The folder.
        threads: Threads that compute one image; default: as many as PyTorch.
        device: "cpu" or "auto", which is the same here.
        unseen: Rule for untrained resolutions; there are none in the folder.

    Raises:
        ImportError: If OpenVINO is not installed.
        ValueError: If a file is damaged, or was not written by `rsseg export`.
        OSError: If there is no such folder.
    """
    openvino = import_extra(NAME)
    check_file(path / OPENVINO_WEIGHTS, device, NAME)
    core = openvino.Core()
    settings = settings_for(threads)
    description = _description(core, path)
    check_unseen(path, unseen, description)

    def open_model(side: int) -> Model:
        model = _read(core, path / f"{side}.xml")
        return Requests(core.compile_model(model, "CPU", settings)).logits

    return FixedShapesExecutor(NAME, description, open_model), description


def _description(core: Any, folder: Path) -> Description:
    """Read the description in a folder: that of its models, which all hold the same.

    Raises:
        ValueError: If a model is missing, or was not written by `rsseg export`.
    """
    first = next(iter(sorted(folder.glob("[0-9]*.xml"))))
    text = text_at(_read(core, first), [KEY])
    if text is None:
        raise ValueError(
            f"{first}: an OpenVINO model without a description; expected one that "
            "`rsseg export` wrote"
        )
    description = parse(text, first)
    missing = [side for side in description.usable if not (folder / f"{side}.xml").is_file()]
    if missing:
        names = ", ".join(f"{side}.xml" for side in missing)
        raise ValueError(f"{folder}: {names} of its description is missing; export it again")
    return description


def _read(core: Any, path: Path) -> Any:
    """Read a model whose constants lie in the shared file."""
    try:
        return core.read_model(str(path), str(path.with_name(OPENVINO_WEIGHTS)))
    except Exception as error:  # Its errors are RuntimeErrors and others.
        raise ValueError(
            f"{path} is not an OpenVINO model that can be run ({first_line(error)}); "
            "export it again"
        ) from error
