"""Weights for the encoder of a segmenter, by name or from a file.

A name ("imagenet") is downloaded by segmentation-models-pytorch's or timm's own client. A file
may hold the layout of the encoder itself, of torchvision or of timm, with or without the
classifier, see `rsseg.weights`. Nothing in it is run.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import timm
from huggingface_hub import hf_hub_download
from segmentation_models_pytorch.encoders import encoders
from torch import nn

from rsseg.common.files import read_json
from rsseg.common.messages import close_names
from rsseg.common.state_files import State, read_state
from rsseg.weights.loading import Loaded, load_start
from rsseg.weights.package import PACKAGE
from rsseg.weights.record import Record, record_of, timm_record, usual_record
from rsseg.weights.source import Weights, open_weights, recorded, refuse_checkpoint

KEY: Final = "model.encoder_weights"


def check_encoder_name(name: str) -> None:
    """Check that segmentation-models-pytorch or, after "tu-", timm knows an encoder.

    Raises:
        ValueError: If the name is unknown; the message holds the closest names.
    """
    if name in encoders or (name.startswith("tu-") and timm.is_model(name[3:])):
        return
    names = [*encoders, *(f"tu-{model}" for model in timm.list_models())]
    close = close_names(name, names)
    hint = f"did you mean {' or '.join(repr(match) for match in close)}? " if close else ""
    raise ValueError(
        f"unknown encoder {name!r}; {hint}Encoders are those of segmentation-models-pytorch "
        f"(such as {', '.join(list(encoders)[:4])}) and, after 'tu-', those of timm"
    )


def load_encoder_weights(encoder: nn.Module, encoder_name: str, weights: str | None) -> None:
    """Load the weights of an encoder in place.

    Args:
        encoder: Encoder of segmentation-models-pytorch. Where it has another number of input
            channels than the weights, the first convolution's weights are repeated and scaled.
        encoder_name: Its name there.
        weights: None leaves the encoder as it is; a name of weights that exist for the encoder
            downloads them; anything else is the path of a file or folder of weights, or
            "package:NAME", see `rsseg.weights.source`.

    Raises:
        ValueError: If neither weights nor a file have that name, if the file is not a state
            dict, or if its keys or shapes are not the encoder's; names the differences.
        ConnectionError: If the download fails; the message names another way.
    """
    if weights is None:
        return
    names = weight_names(encoder_name)
    if weights in names:
        state, source = _download(encoder_name, weights), f"{weights} weights"
        opened = Weights(name=source, state=state)
    else:
        _check_place(weights, encoder_name, names)
        opened = open_weights(weights, key=KEY)
        refuse_checkpoint(opened, KEY)
    # timm's encoders drop layers of the whole network; for its own weights that is not a fault.
    target = f"encoder {encoder_name!r}"
    loaded = load_start(
        encoder, opened, key=KEY, target=target, whole=True, partial=weights in names
    )
    _with_decoder(loaded, weights).announce()


def _check_place(weights: str, encoder_name: str, names: list[str]) -> None:
    """Raise ValueError for what is neither the name of weights nor a path."""
    if weights.startswith(PACKAGE) or Path(weights).expanduser().exists():
        return
    raise ValueError(
        f"encoder {encoder_name!r} has no weights named {weights!r} and there is no such file; "
        f"give the path of a .pth or .safetensors file, or one of: {', '.join(names) or '-'}"
    )


def _with_decoder(loaded: Loaded, weights: str) -> Loaded:
    """Add that a decoder is left out, if there is one."""
    if not any(".decoder." in f".{name}" for name in loaded.left_out):
        return loaded
    note = f"its decoder is left out; init: {weights} in place of {KEY} would load it"
    return replace(loaded, notes=(*loaded.notes, note))


def weight_names(encoder_name: str) -> list[str]:
    """List the names of the weights that can be downloaded for an encoder."""
    if encoder_name.startswith("tu-"):
        return ["imagenet"] if timm.models.is_model_pretrained(encoder_name[3:]) else []
    return sorted(encoders.get(encoder_name, {}).get("pretrained_settings", {}))


def _download(encoder_name: str, weights: str) -> State:
    try:
        if encoder_name.startswith("tu-"):
            model: nn.Module = timm.create_model(encoder_name[3:], pretrained=True)
            return model.state_dict()
        settings = encoders[encoder_name]["pretrained_settings"][weights]
        path = hf_hub_download(
            settings["repo_id"], "model.safetensors", revision=settings["revision"]
        )
    except Exception as error:  # every client of the network raises errors of its own
        raise ConnectionError(
            f"could not download the {weights} weights of encoder {encoder_name!r} "
            f"({type(error).__name__}); without a network, set encoder_weights to the path of a "
            f".pth or .safetensors file with the encoder's state dict, or to None"
        ) from error
    return read_state(Path(path))


def encoder_record(
    encoder_name: str, weights: str | None, init: str | None, *, offline: bool = False
) -> Record | None:
    """Return the normalisation that the weights of a segmenter were trained with, if known.

    Args:
        encoder_name: As `load_encoder_weights` takes it.
        weights: The same.
        init: Weights of the whole segmenter, which come first; see `open_weights`.
        offline: Download nothing.

    Raises:
        ValueError: If a file cannot be read.
    """
    timms = encoder_name[3:] if encoder_name.startswith("tu-") else None
    if init is None and weights in weight_names(encoder_name):
        return timm_record(timms) if timms else _smp_record(encoder_name, str(weights), offline)
    source, key = (weights, KEY) if init is None else (init, "init")
    if source is None:
        return None
    record = recorded(source, key=key)
    return usual_record(timms) if record is None and timms else record


def _smp_record(encoder_name: str, weights: str, offline: bool) -> Record | None:
    settings = encoders[encoder_name]["pretrained_settings"][weights]
    source = f"the record of {encoder_name}'s {weights} weights"
    try:
        path = hf_hub_download(
            settings["repo_id"],
            "config.json",
            revision=settings["revision"],
            local_files_only=offline,
        )
        return record_of({**settings, **read_json(Path(path))}, source)
    except Exception:  # every client of the network raises errors of its own
        return record_of(settings, source)
