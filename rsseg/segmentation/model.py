"""Every segmenter by name: RefineNet and the architectures of segmentation-models-pytorch.

`ARCHITECTURES` is all there is; a new architecture is one line in it. The size of the logits is
the architecture's own: RefineNet's are a quarter of the input, the others' mostly its full size.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import field, fields
from typing import Annotated, Any, Protocol

import segmentation_models_pytorch as smp
from pydantic import ConfigDict, Field, field_validator
from pydantic.dataclasses import dataclass
from torch import nn

from rsseg.common.config import validate
from rsseg.common.messages import check_name
from rsseg.segmentation.encoders import check_encoder_name, load_encoder_weights
from rsseg.segmentation.refinenet import RefineNet

ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {
    "refinenet": RefineNet,
    "unet": smp.Unet,
    "unetplusplus": smp.UnetPlusPlus,
    "fpn": smp.FPN,
    "pspnet": smp.PSPNet,
    "deeplabv3": smp.DeepLabV3,
    "deeplabv3plus": smp.DeepLabV3Plus,
    "linknet": smp.Linknet,
    "manet": smp.MAnet,
    "pan": smp.PAN,
    "upernet": smp.UPerNet,
    "segformer": smp.Segformer,
    "dpt": smp.DPT,
}

# Options that would change what a segmenter returns: plain logits, one tensor.
_REFUSED = {"activation", "aux_params"}

Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class ModelConfig:
    """Which network to build.

    Args:
        architecture: A name in `ARCHITECTURES`, in any case.
        encoder_name: Encoder, as segmentation-models-pytorch names it; timm's start with "tu-".
        encoder_weights: None, a name such as "imagenet", or the path of a file.
        classes: Number of classes.
        decoder_channels: Width of the decoder; None takes the architecture's own. Where the
            architecture has a width per stage it is the first, and each next stage has half.
        in_channels: Channels of the images.
        dropout: Rate of the decoder's dropout; None takes the architecture's own (RefineNet 0.5).
        options: Further arguments of the architecture, by name.
    """

    architecture: str = "refinenet"
    encoder_name: str = "resnet101"
    encoder_weights: str | None = None
    classes: Annotated[int, Field(ge=1, le=255)] = 40  # Label maps are uint8, 255 is void.
    decoder_channels: Count | None = None
    in_channels: Count = 3
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @field_validator("architecture")
    @classmethod
    def _check_architecture(cls, name: str) -> str:
        check_name("architecture", name.lower(), ARCHITECTURES)
        return name

    @field_validator("encoder_name")
    @classmethod
    def _check_encoder(cls, name: str) -> str:
        check_encoder_name(name)
        return name


class HasModel(Protocol):
    """A config of a whole run, such as SegmentationConfig."""

    @property
    def model(self) -> ModelConfig:
        """Which network to build."""


def build_segmenter(config: HasModel | ModelConfig | None = None, **keywords: Any) -> nn.Module:
    """Build a network that maps images to the logits of each pixel's class.

    Args:
        config: The config of a run or of a model; None takes the keywords.
        keywords: Fields of `ModelConfig`.

    Returns:
        The network: images (B, in_channels, h, w) to logits (B, classes, h', w').

    Raises:
        TypeError: If both a config and keywords are given.
        ValueError: If the architecture does not know a name, an option or a value.

    Example:
        >>> network = build_segmenter(encoder_name="resnet18", classes=3, decoder_channels=8)
        >>> type(network).__name__
        'RefineNet'
    """
    if config is not None and keywords:
        raise TypeError(f"give a config or keywords, not both; got keywords {sorted(keywords)}")
    if config is None:
        config = validate(ModelConfig, keywords, "build_segmenter")
    return _build(config if isinstance(config, ModelConfig) else config.model)


def _build(config: ModelConfig) -> nn.Module:
    name = config.architecture.lower()
    arguments = _arguments(config, inspect.signature(ARCHITECTURES[name]))
    try:
        network = ARCHITECTURES[name](
            encoder_name=config.encoder_name,
            encoder_weights=None,  # loaded below, in one way for every architecture
            classes=config.classes,
            in_channels=config.in_channels,
            **arguments,
        )
    except TypeError as error:
        text = f"{config.architecture} with encoder {config.encoder_name!r} refuses"
        raise ValueError(f"{text} the options {arguments}: {error}") from error
    encoder = network.get_submodule("encoder")
    load_encoder_weights(encoder, config.encoder_name, config.encoder_weights)
    return network


def _arguments(config: ModelConfig, signature: inspect.Signature) -> dict[str, Any]:
    """Return the arguments that not every architecture has."""
    parameters = signature.parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD}
    _check_options(config, defaults)
    arguments = dict(config.options)
    if config.decoder_channels is not None:
        _check_setting("decoder_channels", config, defaults)
        arguments["decoder_channels"] = config.decoder_channels
        if isinstance(defaults["decoder_channels"], tuple):
            depth = config.options.get("encoder_depth", defaults["encoder_depth"])
            widths = tuple(max(1, config.decoder_channels >> stage) for stage in range(depth))
            arguments["decoder_channels"] = widths
    if config.dropout is not None:
        rate = next((name for name in defaults if name.endswith("dropout")), "dropout")
        _check_setting(rate, config, defaults)
        arguments[rate] = config.dropout
    return arguments


def _check_options(config: ModelConfig, defaults: dict[str, Any]) -> None:
    settings = {item.name for item in fields(ModelConfig)} - {"decoder_channels"}
    for name in config.options:
        if name in settings or name in _REFUSED:
            remedy = (
                "set it beside the options" if name in settings else "a segmenter returns logits"
            )
            raise ValueError(f"{name!r} cannot be an option: {remedy}")
        # Only timm knows the options of its encoders; other encoders take none.
        if name not in defaults and not config.encoder_name.startswith("tu-"):
            options = sorted(set(defaults) - settings - _REFUSED)
            check_name(f"option of {config.architecture}", name, options)


def _check_setting(name: str, config: ModelConfig, defaults: dict[str, Any]) -> None:
    if name not in defaults:
        raise ValueError(f"{config.architecture} has no {name}; it takes: {', '.join(defaults)}")
    if name in config.options:
        raise ValueError(f"{name} is set twice: beside the options and in them")
