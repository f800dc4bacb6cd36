"""Packages that only some commands need, and the command that installs each."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable
from typing import Any, Final

# The name to import, and the extra of rsseg that brings it.
EXTRAS: Final = {
    "albumentations": "data",
    **dict.fromkeys(("onnx", "onnxruntime", "onnxscript"), "onnx"),
    "executorch": "executorch",
    "openvino": "openvino",
    **dict.fromkeys(("datasets", "webdataset"), "readers"),
    **dict.fromkeys(("prometheus_client", "starlette", "uvicorn"), "serve"),
}


def extra_message(package: str) -> str:
    """Return that a package of `EXTRAS` is not installed, and the command that installs it.

    Example:
        >>> extra_message("onnxruntime")
        "onnxruntime is not installed; pip install 'rsseg[onnx]'"
    """
    return f"{package} is not installed; pip install 'rsseg[{EXTRAS[package]}]'"


def import_extra(package: str) -> Any:
    """Import a package of `EXTRAS`.

    Raises:
        ImportError: If it is not installed, or cannot be loaded; says what to install.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ImportError(extra_message(package), name=package) from error


def check_extras(packages: Iterable[str]) -> None:
    """Check that packages of `EXTRAS` are installed, without importing them.

    Raises:
        ImportError: If one is not; says what to install.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise ImportError(extra_message(package), name=package)


def missing_extra(error: ImportError) -> str | None:
    """Return the message for an extra that is not installed, or None for any other failed import.

    Args:
        error: As `import` or `import_extra` raises it.
    """
    package = (error.name or "").partition(".")[0]
    return extra_message(package) if package in EXTRAS else None
