"""Names that a user writes, checked against the known ones, with the closest in the error."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import timm
from segmentation_models_pytorch.encoders import encoders


def check_name(kind: str, name: str, choices: Iterable[str]) -> None:
    """Refuse an unknown name.

    Args:
        kind: What is named, for the error.
        name: The name to check.
        choices: The known names.

    Raises:
        ValueError: If the name is unknown; gives the closest known names, or all.

    Example:
        >>> check_name("architecture", "unte", ["unet", "fpn"])
        Traceback (most recent call last):
        ValueError: unknown architecture 'unte'; did you mean 'unet'?
    """
    known = list(choices)
    if name in known:
        return
    close = difflib.get_close_matches(name.lower(), known, n=3)
    if close:
        hint = f"did you mean {' or '.join(repr(match) for match in close)}?"
    else:
        hint = f"there are: {', '.join(known) or 'none'}"
    raise ValueError(f"unknown {kind} {name!r}; {hint}")


def check_encoder_name(name: str) -> None:
    """Refuse an encoder that neither segmentation-models-pytorch nor, after "tu-", timm knows.

    Raises:
        ValueError: If the name is unknown; gives the closest known names.
    """
    if name in encoders or (name.startswith("tu-") and timm.is_model(name[3:])):
        return
    names = [*encoders, *(f"tu-{model}" for model in timm.list_models())]
    close = difflib.get_close_matches(name, names, n=3)
    hint = f"did you mean {' or '.join(repr(match) for match in close)}? " if close else ""
    raise ValueError(
        f"unknown encoder {name!r}; {hint}Encoders are those of segmentation-models-pytorch "
        f"(such as {', '.join(list(encoders)[:4])}) and, after 'tu-', those of timm"
    )
