"""From a network to a folder of OpenVINO's own models: one of fixed shape for each resolution.

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
from rsseg.runtime.description import KEY, Description
from rsseg.runtime.fixed_shapes.programs import programs_of
from rsseg.runtime.onnx.model import model_of_graph
from rsseg.runtime.onnx.openvino import core
from rsseg.switchable.net import SwitchableNet

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
    openvino = import_extra("openvino")
    text = json.dumps(plain(description))
    with (
        (folder / OPENVINO_WEIGHTS).open("wb") as stream,
        TemporaryDirectory(dir=folder) as temporary,
    ):
        weights = _Weights(stream)
        for side, program in programs_of(net, description.usable).items():
            alone = Path(temporary, f"{side}.xml")
            openvino.serialize(_model(program, text), str(alone))
            weights.share(alone, folder / alone.name)


def _model(program: ExportedProgram, text: str) -> Any:
    """Convert a graph to a model of OpenVINO that has not been optimised for any processor."""
    passes = import_module("openvino.passes")
    proto = model_of_graph(program)
    try:
        # By way of ONNX: OpenVINO's reader of PyTorch folds products into convolutions at once.
        model = core().read_model(io.BytesIO(proto.SerializeToString()))
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
