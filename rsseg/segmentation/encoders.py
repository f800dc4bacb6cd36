"""Weights for the encoder of a segmenter, by name or from a file.

A name ("imagenet") is downloaded by segmentation-models-pytorch's or timm's own client. A file
may hold the layout of the encoder itself, of torchvision or of timm, with or without the
classifier: keys are compared without the prefixes that wrappers add. Nothing is unpickled.
"""

from __future__ import annotations

import re
from pathlib import Path

import timm
from huggingface_hub import hf_hub_download
from segmentation_models_pytorch.encoders import encoders
from timm.models import adapt_input_conv
from torch import Tensor, nn

from rsseg.common.messages import close_names, listed
from rsseg.common.state_files import State, read_state


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


# How the names of what may follow the encoder in a file begin: a classifier, or a decoder.
_NOT_THE_ENCODER = frozenset(
    ["fc", "classifier", "last", "linear", "head", "segmentation", "classification", "decoder"]
)
_OPTIONAL = "num_batches_tracked"  # absent from files older than this counter


def load_encoder_weights(encoder: nn.Module, encoder_name: str, weights: str | None) -> None:
    """Load the weights of an encoder in place.

    Args:
        encoder: Encoder of segmentation-models-pytorch. Where it has another number of input
            channels than the weights, the first convolution's weights are repeated and scaled.
        encoder_name: Its name there.
        weights: None leaves the encoder as it is; a name of weights that exist for the encoder
            downloads them; anything else is the path of a .pth or .safetensors file.

    Raises:
        ValueError: If neither weights nor a file have that name, if the file is not a state
            dict, or if its keys or shapes are not the encoder's; names the differences.
        ConnectionError: If the download fails; the message names another way.
    """
    if weights is None:
        return
    names = weight_names(encoder_name)
    if weights in names:
        source, state = f"{weights} weights", _download(encoder_name, weights)
    elif Path(weights).is_file():
        source, state = weights, read_state(Path(weights))
    else:
        raise ValueError(
            f"encoder {encoder_name!r} has no weights named {weights!r} and there is no such file; "
            f"give the path of a .pth or .safetensors file, or one of: {', '.join(names) or '-'}"
        )
    # timm's encoders drop layers of the whole network; for its own weights that is not a fault.
    title = f"{source} for encoder {encoder_name!r}"
    _load(encoder, state, title, ignore_extra=weights in names)


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


def _canonical(key: str) -> str:
    """Return the name of a tensor without what wrappers and versions of libraries add."""
    key = re.sub(r"^((module|encoder|model)\.)+", "", key)
    # torchvision's first DenseNets say norm.1 for norm1; timm says stages_0 for stages.0.
    key = re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.", r"\1", key)
    return key.strip("_").replace("_", ".")


def _load(encoder: nn.Module, state: State, source: str, *, ignore_extra: bool) -> None:
    own: State = encoder.state_dict()
    tensors = {_canonical(key): value for key, value in state.items()}
    fitted = {
        key: _fit_input(tensors[_canonical(key)], value) if _canonical(key) in tensors else value
        for key, value in own.items()
    }
    names = {_canonical(key) for key in own}
    extra = [key for key in state if _canonical(key) not in names and not _follows(key)]
    faults = {
        "missing": [key for key in own if _canonical(key) not in tensors and _OPTIONAL not in key],
        "extra": [] if ignore_extra else extra,
        "other shape": [
            f"{key} {tuple(fitted[key].shape)} instead of {tuple(value.shape)}"
            for key, value in own.items()
            if fitted[key].shape != value.shape
        ],
    }
    if any(faults.values()):
        text = "; ".join(f"{kind}: {listed(keys)}" for kind, keys in faults.items() if keys)
        raise ValueError(f"{source} do not fit; {text}")
    encoder.load_state_dict(fitted)


def _follows(key: str) -> bool:
    """Return whether a tensor belongs to a part behind the encoder."""
    return _canonical(key).partition(".")[0] in _NOT_THE_ENCODER


def _fit_input(value: Tensor, own: Tensor) -> Tensor:
    """Fit the weights of a convolution on RGB images to another number of input channels."""
    if value.dim() != 4 or value.shape[1] != 3 or own.dim() != 4 or own.shape[1] == 3:
        return value
    fitted: Tensor = adapt_input_conv(own.shape[1], value)
    return fitted
