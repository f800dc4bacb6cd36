"""What others' tools make of exported files: a tool in each line, a kind of file in each column.

Each cell runs in a process of its own, since some tools crash: the tool reads or converts the file,
and the result is run and compared with the file itself in ONNX Runtime, at all trained resolutions
and at one between, on noise or on a photo. Nothing is timed. Tools that are not installed are named
as such; their packages are `onnxconverter-common` and `onnxslim`, the others come with
`rsseg[onnx,openvino]`.

Formats of fixed shapes (`rsseg[executorch]`, OpenVINO) are compared with the ONNX file of the same
network.

To add a tool, write a function from a `Subject` to what it shows and put it into TOOLS; it raises
what the tool raises, or a FailedError. To add a kind of file, put it into KINDS.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from io import StringIO
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

if not __package__:  # Run as a script: nothing is installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

# Nothing here imports torch: a process for each cell starts in no time.
from rsseg.common.files import size_of, written_whole
from rsseg.common.messages import first_line, markdown_table

Floats = NDArray[np.float32]
DOCUMENT: Final = Path("docs/RUNTIME.md")
BEGIN, END = "<!-- tools: begin -->", "<!-- tools: end -->"
ONNX_KINDS: Final = ("default", "--compact", "--resolution")
TOLERANCE: Final = 1e-3  # of the largest logit, of a file that computes in floats of 32 bits
HALF_TOLERANCE: Final = 2e-3  # of the largest logit, of 16 bits
MOST_SIZE: Final = 1.1  # of a file that is to become no larger
SECONDS: Final = 600  # for a cell
_LONGEST: Final = 160  # letters of a reason
_SOURCES: Final = re.compile(r"[\w./-]*/(?=[\w-]+\.(?:[ch]pp|h))")  # folders of a tool's sources


class FailedError(RuntimeError):
    """A tool's result that cannot be used; the message says why."""


@dataclass(frozen=True)
class Subject:
    """An exported file, a folder for what tools make of it, and a photo to compute, else noise."""

    path: Path
    folder: Path
    photo: Path | None = None

    @cached_property
    def reference(self) -> Path:
        """The ONNX file that logits are compared with: itself, else the one of the same network."""
        if self.path.suffix == ".onnx":
            return self.path
        return self.path.with_name(f"{self.path.name.rpartition('_')[0]}_default.onnx")

    @cached_property
    def model(self) -> Any:
        """The ONNX file, read."""
        import onnx  # noqa: PLC0415 An extra.

        return onnx.load(self.reference)

    @cached_property
    def images(self) -> list[Floats]:
        """One normalised image for each trained resolution, and for one between where it goes."""
        texts = {entry.key: entry.value for entry in self.model.metadata_props}
        sides = [int(side) for side in texts["resolutions"].split(",")]
        if len(sides) > 1:
            sides.append((sides[0] + sides[1]) // 2)
        if self.photo is None:
            rng = np.random.default_rng(0)
            return [rng.standard_normal((1, 3, side, side)).astype(np.float32) for side in sides]
        mean, std = (_numbers(texts[name]) for name in ("mean", "std"))
        views = [(square(self.photo, side) - mean) / std for side in sides]
        return [view.transpose(2, 0, 1)[None].astype(np.float32) for view in views]

    @cached_property
    def expected(self) -> list[Floats]:
        """Logits of the ONNX file."""
        return outputs(self.reference, self.images)

    def check(self, computed: Sequence[Floats], tolerance: float = TOLERANCE) -> str:
        """Return the largest difference over the largest logit; raise if it is too large."""
        size = max(float(np.abs(logits).max()) for logits in self.expected)
        differences = {
            image.shape[-1]: float(np.abs(a.astype(np.float32) - b).max()) / size
            for image, a, b in zip(self.images, computed, self.expected, strict=True)
        }
        # Written so that a difference which is not a number fails as well.
        bad = {side: value for side, value in differences.items() if not value <= tolerance}
        if bad:
            sides = ", ".join(map(str, bad))
            raise FailedError(
                f"differs by {max(bad.values()):.1e} of the largest logit, at {sides} pixels"
            )
        return f"{max(differences.values()):.0e}"

    def growth(self, path: Path) -> float:
        """Return the size of a file or folder over that of the ONNX file."""
        return size_of(path) / size_of(self.reference)


def square(photo: Path, side: int) -> Floats:
    """Return the middle of a photo as a square, values 0..1, shape (side, side, 3)."""
    from PIL import Image, ImageOps  # noqa: PLC0415 For a photo alone.

    with Image.open(photo) as image:
        pixels = np.asarray(ImageOps.fit(image.convert("RGB"), (side, side)), np.float32)
    return pixels / np.float32(255)


def _numbers(text: str) -> Floats:
    return np.array([float(value) for value in text.split(",")], np.float32)


def outputs(path: Path, images: Sequence[Floats]) -> list[Floats]:
    """Compute logits with ONNX Runtime."""
    import onnxruntime  # noqa: PLC0415 An extra.

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [session.run(None, {"images": image})[0] for image in images]


def nodes(graph: Any) -> Iterator[Any]:
    """Yield the nodes of a graph and of the branches in it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes(attribute.g)


# The tools.


def dynamic_int8(subject: Subject) -> str:
    """ONNX Runtime's quantiser of weights, with activations quantised while it runs."""
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415

    path = subject.folder / "dynamic.onnx"
    quantize_dynamic(subject.path, path, weight_type=QuantType.QUInt8)
    return _integers(subject, path, "ConvInteger")


def static_int8(subject: Subject) -> str:
    """ONNX Runtime's quantiser with ranges from images."""
    from onnxruntime.quantization import QuantType, quantize_static  # noqa: PLC0415

    path, images = subject.folder / "static.onnx", iter(subject.images)

    class Reader:
        def get_next(self) -> dict[str, Floats] | None:
            image = next(images, None)
            return None if image is None else {"images": image}

    types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    quantize_static(subject.path, path, Reader(), per_channel=True, **types)
    return _integers(subject, path, "DequantizeLinear")


def _integers(subject: Subject, path: Path, kind: str) -> str:
    """Check that no convolution is left with weights in floats."""
    import onnx  # noqa: PLC0415 An extra.

    graph = onnx.load(path).graph
    written = {name: node.op_type for node in nodes(graph) for name in node.output}
    layers = [node for node in nodes(graph) if node.op_type in ("Conv", "ConvInteger")]
    done = sum(kind in (node.op_type, written.get(node.input[1])) for node in layers)
    if done < len(layers):
        raise FailedError(f"{done} of {len(layers)} convolutions quantised; see the doc string")
    if not all(np.isfinite(logits).all() for logits in outputs(path, subject.images)):
        raise FailedError("logits are not finite")
    return f"size {subject.growth(path):.2f}"


def half_common(subject: Subject) -> str:
    """The float16 converter of onnxconverter-common."""
    from onnxconverter_common import float16  # noqa: PLC0415 Only for this table.

    return _half(subject, float16.convert_float_to_float16)


def half_runtime(subject: Subject) -> str:
    """The float16 converter of ONNX Runtime."""
    from onnxruntime.transformers import float16  # noqa: PLC0415 An extra.

    return _half(subject, float16.convert_float_to_float16)


def _half(subject: Subject, convert: Callable[..., Any]) -> str:
    path = subject.folder / "half.onnx"
    path.write_bytes(convert(subject.model, keep_io_types=True).SerializeToString())
    return subject.check(outputs(path, subject.images), HALF_TOLERANCE)


def slim(subject: Subject) -> str:
    """Onnxslim, which folds and fuses."""
    import onnxslim  # noqa: PLC0415 Only for this table.

    path = subject.folder / "slim.onnx"
    path.write_bytes(onnxslim.slim(str(subject.path)).SerializeToString())
    subject.check(outputs(path, subject.images))
    if subject.growth(path) > MOST_SIZE:
        raise FailedError(f"{subject.growth(path):.1f} times the size; see the doc string")
    return f"size {subject.growth(path):.2f}"


def opencv(subject: Subject) -> str:
    """OpenCV's dnn module."""
    import cv2  # noqa: PLC0415 Takes its time.

    network = cv2.dnn.readNetFromONNX(str(subject.path))
    computed = []
    for image in subject.images:
        network.setInput(image, "images")
        computed.append(np.asarray(network.forward(), np.float32))
    return subject.check(computed)


def openvino(subject: Subject) -> str:
    """OpenVINO, which reads the file as it is."""
    import openvino as runtime  # noqa: PLC0415 An extra.

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "1"}
    model = runtime.Core().compile_model(str(subject.path), "CPU", settings)
    return subject.check([model({"images": image})["logits"] for image in subject.images])


def opset_17(subject: Subject) -> str:
    """The converter of onnx, to a version that older tools read."""
    import onnx  # noqa: PLC0415 An extra.
    from onnx import version_converter  # noqa: PLC0415 An extra.

    model, path = version_converter.convert_version(subject.model, 17), subject.folder / "17.onnx"
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return subject.check(outputs(path, subject.images))


def symbolic_shapes(subject: Subject) -> str:
    """ONNX Runtime's shape inference with names for free axes, which its converters begin with."""
    from onnxruntime.tools.symbolic_shape_infer import (  # noqa: PLC0415 An extra.
        SymbolicShapeInference,
    )

    inferred = SymbolicShapeInference.infer_shapes(subject.model, auto_merge=True).graph
    known = {value.name for value in (*inferred.value_info, *inferred.output)}
    layers = [node for node in inferred.node if node.op_type == "Conv"]
    shapes = sum(node.output[0] in known for node in layers)
    if shapes < len(layers):
        raise FailedError(f"shapes of {shapes} of {len(layers)} convolutions")
    return "all shapes" if layers else "branches are left out"


def fixed_shapes(subject: Subject) -> str:
    """The runtime of a format of fixed shapes, at the trained resolutions."""
    from rsseg.runtime.opening import open_executor  # noqa: PLC0415 Some load torch.

    executor, _ = open_executor(subject.path, threads=1)
    computed = list(subject.expected)  # A size in between is not in such a file.
    for place, image in enumerate(subject.images):
        if image.shape[-1] in executor.resolutions:
            computed[place] = executor.logits(image, image.shape[-1])
    return f"{subject.check(computed)}, size {subject.growth(subject.path):.2f}"


class Tool(NamedTuple):
    """A tool.

    Attributes:
        package: Without which it is not run.
        run: Returns what the cell shows, or raises.
        kinds: Of the files that it takes.
    """

    package: str
    run: Callable[[Subject], str]
    kinds: tuple[str, ...] = ONNX_KINDS


TOOLS: Final[dict[str, Tool]] = {
    "ONNX Runtime, dynamic INT8": Tool("onnxruntime", dynamic_int8),
    "ONNX Runtime, static INT8": Tool("onnxruntime", static_int8),
    "float16, onnxconverter-common": Tool("onnxconverter_common", half_common),
    "float16, onnxruntime.transformers": Tool("onnxruntime", half_runtime),
    "onnxslim": Tool("onnxslim", slim),
    "OpenCV dnn": Tool("cv2", opencv),
    "OpenVINO": Tool("openvino", openvino),
    "onnx.version_converter, opset 17": Tool("onnx", opset_17),
    "symbolic shape inference": Tool("onnxruntime", symbolic_shapes),
    "ExecuTorch, XNNPACK": Tool("executorch", fixed_shapes, ("executorch",)),
    "OpenVINO, models of fixed shape": Tool("openvino", fixed_shapes, ("openvino",)),
}


# The files.


def _write_onnx(checkpoint: Path, path: Path, *, compact: bool = False, one: bool = False) -> None:
    from rsseg.load import load_checkpoint  # noqa: PLC0415 Imports torch.
    from rsseg.runtime.onnx.export import export_checkpoint  # noqa: PLC0415 As well.

    largest = load_checkpoint(checkpoint)[0].resolutions[0] if one else None
    export_checkpoint(checkpoint, path, compact=compact, resolution=largest)


def _write_fixed(checkpoint: Path, path: Path, *, name: str) -> None:
    from rsseg.runtime.fixed_shapes.export import export_fixed  # noqa: PLC0415 Imports torch.

    with suppress(ImportError):  # The cell says that the package is missing.
        export_fixed(checkpoint, path, name)


class Kind(NamedTuple):
    """A kind of exported file.

    Attributes:
        suffix: Of its name.
        write: Called with the checkpoint and the file to write.
    """

    suffix: str
    write: Callable[[Path, Path], None]


KINDS: Final[dict[str, Kind]] = {
    "default": Kind(".onnx", _write_onnx),
    "--compact": Kind(".onnx", lambda source, path: _write_onnx(source, path, compact=True)),
    "--resolution": Kind(".onnx", lambda source, path: _write_onnx(source, path, one=True)),
    "executorch": Kind(".pte", partial(_write_fixed, name="executorch")),
    "openvino": Kind("", partial(_write_fixed, name="openvino")),
}


def files(networks: Mapping[str, Path], folder: Path) -> dict[tuple[str, str], Path]:
    """Export each network in each kind, where it is not in the folder; return the files."""
    made = {}
    for name, checkpoint in networks.items():
        for kind, (suffix, write) in KINDS.items():
            path = folder / f"{name}_{kind.strip('-')}{suffix}"
            if not path.exists():
                write(checkpoint, path)
            made[name, kind] = path
    return made


# The cells.


def cell(tool: str, path: Path, photo: Path | None = None) -> dict[str, Any]:
    """Run a tool on a file, in this process."""
    if importlib.util.find_spec(TOOLS[tool].package) is None:
        return {"ok": None, "text": "not installed"}
    try:
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
            return {"ok": True, "text": TOOLS[tool].run(Subject(path, Path(folder), photo))}
    except Exception as error:  # Each tool has errors of its own.
        return {"ok": False, "text": reason(error)}


def reason(error: Exception) -> str:
    """Return the first line of an error, short, without folders of the tool's sources."""
    text = _SOURCES.sub("", first_line(error)).replace("|", "/")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def cell_of_its_own(tool: str, path: Path, photo: Path | None = None) -> dict[str, Any]:
    """Run a tool on a file in a process of its own."""
    given = [tool, str(path)] if photo is None else [tool, str(path), str(photo)]
    command = [sys.executable, "-m", "benchmarks.tools", "--cell", *given]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {"ok": False, "text": f"not ready after {SECONDS} s"}
    if done.returncode:
        return {"ok": False, "text": f"crashes (status {done.returncode})"}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


Cells = Mapping[tuple[str, str, str], Mapping[str, Any]]  # by tool, network and kind


def table(cells: Cells) -> str:
    """Lay out the cells as Markdown, with the reasons of failures below."""
    columns = list(dict.fromkeys((network, kind) for _, network, kind in cells))
    reasons: dict[str, int] = {}
    rows = [["tool", *(f"{network}, {kind}" for network, kind in columns)]]
    for tool in dict.fromkeys(tool for tool, _, _ in cells):
        rows.append([tool, *(_shown(cells.get((tool, *column)), reasons) for column in columns)])
    notes = [f"({number}) {text}" for text, number in reasons.items()]
    return "\n".join([markdown_table(rows), "", *(f"{note}  " for note in notes)]).rstrip()


def _shown(result: Mapping[str, Any] | None, reasons: dict[str, int]) -> str:
    if result is None:
        return "-"
    if result["ok"]:
        return f"ok, {result['text']}"
    if result["ok"] is None:
        return str(result["text"])
    return f"no ({reasons.setdefault(result['text'], len(reasons) + 1)})"


def put_between(text: str, content: str, begin: str = BEGIN, end: str = END) -> str:
    """Return a document with other content between two markers.

    Raises:
        ValueError: If it does not have both of them.
    """
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"expected one {begin} and one {end}")
    before, rest = text.split(begin)
    return f"{before}{begin}\n{content}\n{end}{rest.split(end)[1]}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tools",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    what = "networks as NAME=CHECKPOINT, such as classifier=runs/cls/last.pt"
    add("networks", nargs="*", metavar="NAME=CHECKPOINT", help=what)
    add("--files", type=Path, help="folder of the exported files, kept and used again")
    what = "photos that their files compute, default: noise"
    add("--photos", nargs="+", default=[], metavar="NAME=PHOTO", help=what)
    add("--tools", nargs="+", choices=TOOLS, default=list(TOOLS), metavar="TOOL")
    add("--write", action="store_true", help=f"put the table into {DOCUMENT}")
    add("--cell", nargs="+", metavar="TOOL FILE [PHOTO]", help="run one cell and print JSON")
    return parser


def _pairs(parser: argparse.ArgumentParser, given: Sequence[str]) -> dict[str, Path]:
    pairs = {}
    for text in given:
        name, separator, path = text.partition("=")
        if not separator:
            parser.error(f"expected NAME=FILE, got {text}")
        pairs[name] = Path(path)
    return pairs


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.cell:
        tool, *paths = options.cell
        print(json.dumps(cell(tool, *map(Path, paths))))
        return 0
    networks, photos = (_pairs(parser, given) for given in (options.networks, options.photos))
    if not networks or not photos.keys() <= networks.keys():
        parser.error("give one network or more as NAME=CHECKPOINT, and photos of these alone")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.files or Path(temporary)
        cells = {}
        for (network, kind), path in files(networks, folder).items():
            for tool in options.tools:
                if kind in TOOLS[tool].kinds:
                    result = cell_of_its_own(tool, path, photos.get(network))
                    cells[tool, network, kind] = result
                    print(f"{network}, {kind}, {tool}: {result}", flush=True)
    print(table(cells))
    if options.write:
        with written_whole(DOCUMENT) as part:
            document = put_between(DOCUMENT.read_text(encoding="utf-8"), table(cells))
            part.write_text(document, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
