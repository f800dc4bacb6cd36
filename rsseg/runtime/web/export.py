"""A network as a folder that any file server turns into a demo: it runs in the browser.

The folder holds the page, the exported network and onnxruntime-web; nothing else is loaded, and no
image leaves the browser.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rsseg.common.config import plain
from rsseg.common.file_kinds import CHECKPOINTS, FileKind, file_kind, wrong_kind_message
from rsseg.runtime.accuracies import accuracies_beside
from rsseg.runtime.description import Description
from rsseg.runtime.predictor import Predictor
from rsseg.runtime.serve.request import allowed_resolutions
from rsseg.runtime.web.page import accuracy_values, css_colours, page, policed
from rsseg.runtime.web.runtime_files import MODULE, WASM, runtime_files

NETWORK: Final = "network.onnx"
PAGE: Final = "index.html"
# Writes the network of a checkpoint as an ONNX file: the checkpoint, the file.
Write = Callable[[Path, Path], object]


@dataclass(frozen=True)
class WebExport:
    """A folder that was written.

    Attributes:
        folder: The folder.
        sizes: Of its files, in bytes by name.
    """

    folder: Path
    sizes: Mapping[str, int]


def export_web(
    network: Path, folder: Path, *, write: Write, runtime_folder: Path | None = None
) -> WebExport:
    """Write a folder that runs a network in the browser.

    Args:
        network: A checkpoint, packed or exported file. results.json beside it gives accuracies.
        folder: To be written; one that exists has to be empty.
        write: Exports a checkpoint.
        runtime_folder: See `runtime_files`.

    Raises:
        ValueError: If something given is not valid, or onnxruntime-web cannot be had.
        ImportError: If ONNX Runtime is not installed.
        OSError: If the folder cannot be written.
    """
    _check(network, folder)
    files = runtime_files(runtime_folder)  # First, as it fails sooner than an export.
    with _written_whole(folder) as temporary:
        target = temporary / NETWORK
        if file_kind(network) is FileKind.EXPORTED:
            shutil.copyfile(network, target)
        else:
            write(network, target)
        predictor = Predictor.open(target)
        predictor.name = predictor.description.name
        given = {
            "model": _model(predictor, network),
            "network": NETWORK,
            "runtime": MODULE,
            "wasm": WASM,
        }
        (temporary / PAGE).write_text(policed(page("browser", given)), encoding="utf-8")
        for name, content in files.items():
            (temporary / name).write_bytes(content)
        sizes = {path.name: path.stat().st_size for path in sorted(temporary.iterdir())}
    return WebExport(folder, sizes)


def _check(network: Path, folder: Path) -> None:
    kinds = (*CHECKPOINTS, FileKind.EXPORTED)
    if file_kind(network) not in kinds:
        raise ValueError(wrong_kind_message(network, kinds))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not an empty folder; choose another name")
    if not folder.absolute().parent.is_dir():
        raise ValueError(f"there is no folder {folder.parent} for {folder.name}; make it first")


def _model(predictor: Predictor, network: Path) -> dict[str, Any]:
    """Return what the page knows of the network, as /model of the service tells it."""
    description: Description = predictor.description
    values: dict[str, Any] = {
        "name": description.name,
        "task": predictor.task,
        "executor": "onnxruntime-web in this browser",
        "classes": list(predictor.classes),
        "resolutions": list(predictor.resolutions),
        "allowed": list(allowed_resolutions(predictor)),
        "accuracy": accuracy_values(accuracies_beside(network, plain(description))),
        "preprocessing": asdict(predictor.preprocessing),
    }
    if predictor.head.dense:
        values["colours"] = css_colours(predictor.colours.tolist())
    return values


@contextmanager
def _written_whole(folder: Path) -> Iterator[Path]:
    """Yield a folder beside it, which gets its name when the `with` block ends well."""
    parent = folder.absolute().parent
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=parent) as temporary:
        whole = Path(temporary) / folder.name
        whole.mkdir()
        yield whole
        if folder.exists():
            folder.rmdir()
        whole.rename(folder)
