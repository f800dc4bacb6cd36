"""OpenVINO as an executor of folders of its own models, which are written by `write_openvino`.

Source: https://docs.openvino.ai/, "OpenVINO IR format".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from rsseg.common.extras import import_extra
from rsseg.common.file_kinds import OPENVINO_WEIGHTS
from rsseg.common.messages import first_line
from rsseg.runtime.description import KEY, Description, parse
from rsseg.runtime.fixed_shapes.executor import FixedShapesExecutor, Model
from rsseg.runtime.onnx.executor import check_file, check_unseen
from rsseg.runtime.onnx.openvino import Requests, core, settings_for, text_at

NAME: Final = "openvino"


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
    import_extra(NAME)
    check_file(path / OPENVINO_WEIGHTS, device, NAME)
    settings = settings_for(threads)
    description = _description(path)
    check_unseen(path, unseen, description)

    def open_model(side: int) -> Model:
        model = _read(path / f"{side}.xml")
        return Requests(core().compile_model(model, "CPU", settings)).logits

    return FixedShapesExecutor(NAME, description, open_model), description


def _description(folder: Path) -> Description:
    """Read the description in a folder: that of its models, which all hold the same.

    Raises:
        ValueError: If a model is missing, or was not written by `rsseg export`.
    """
    first = next(iter(sorted(folder.glob("[0-9]*.xml"))))
    text = text_at(_read(first), [KEY])
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


def _read(path: Path) -> Any:
    """Read a model whose constants lie in the shared file."""
    try:
        return core().read_model(str(path), str(path.with_name(OPENVINO_WEIGHTS)))
    except Exception as error:  # Its errors are RuntimeErrors and others.
        raise ValueError(
            f"{path} is not an OpenVINO model that can be run ({first_line(error)}); "
            "export it again"
        ) from error
