"""Names of encoders, checked against those that exist, with the closest in the error."""

from __future__ import annotations

import difflib

import timm
from segmentation_models_pytorch.encoders import encoders


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
