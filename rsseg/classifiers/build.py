"""Every classifier by name: the paper's networks, and those of torchvision and timm.

`NETWORKS` holds what is built in a way of its own; any other name is one of torchvision or of
timm ("timm/NAME" where both know it). How a classifier is trained is in `classification/`; this
file is part of the library, so that a checkpoint can be loaded without it.

The paper's initialisation (convolutions Kaiming normal over fan-out, MobileNetV2's linear layer
N(0, 0.01)) is what torchvision does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from functools import partial
from typing import Annotated, Any, Final

import timm
import torchvision
from pydantic import ConfigDict, Field, field_validator
from pydantic.dataclasses import dataclass
from torch import nn

from rsseg.classifiers.preactivation import preact_resnet18, preact_resnet50
from rsseg.common.config import validate
from rsseg.common.messages import check_name
from rsseg.common.state_files import State
from rsseg.quantization.convert import FLOAT, QUANTIZERS, QuantizerSettings, quantize
from rsseg.quantization.quantizer import BITS
from rsseg.switchable.layers import Sharing
from rsseg.weights.loading import load_start
from rsseg.weights.record import Record, record_of, timm_record, usual_record
from rsseg.weights.source import Weights, open_weights, recorded, refuse_checkpoint

# The auxiliary classifiers of these two would make a tuple of their output.
_PLAIN = {"aux_logits": False, "init_weights": True}

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "resnet18": torchvision.models.resnet18,
    "resnet34": torchvision.models.resnet34,
    "resnet50": torchvision.models.resnet50,
    "resnet101": torchvision.models.resnet101,
    "preact_resnet18": preact_resnet18,
    "preact_resnet50": preact_resnet50,
    # Torchvision's own default is a dropout of 0.2; the paper names none, its code has none.
    "mobilenetv2": partial(torchvision.models.mobilenet_v2, dropout=0.0),
    "googlenet": partial(torchvision.models.googlenet, **_PLAIN),
    "inception_v3": partial(torchvision.models.inception_v3, **_PLAIN),
}
TIMM = "timm/"
KEY: Final = "model.weights"
IMAGENET: Final = "imagenet"


@dataclass(frozen=True, config=ConfigDict(extra="forbid"), kw_only=True)
class QuantizationConfig:
    """How the convolutions of a network are quantised, all but the first (Table 3).

    Args:
        weights: Bits of a weight, 1..4, or 32 for full precision.
        activations: Bits of an activation, 1..4, or 32.
        quantizer: "lq" of LQ-Nets, or "lsq".
        basis: Whether the levels are "shared" by all resolutions, learnt by the "largest_only",
            or "private" to each.
        momentum: Share of the old levels in their moving average ("lq").
        debias: Whether that average begins with the first fit ("lq").
    """

    weights: int = 2
    activations: int = 2
    quantizer: str = "lq"
    basis: Sharing = "shared"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    debias: bool = True

    @field_validator("weights", "activations")
    @classmethod
    def _bits(cls, bits: int) -> int:
        if bits not in (*BITS, FLOAT):
            raise ValueError(f"expected 1 to 4 bits, or {FLOAT} for full precision, got {bits}")
        return bits

    @field_validator("quantizer")
    @classmethod
    def _kind(cls, name: str) -> str:
        check_name("quantiser", name, list(QUANTIZERS))
        return name

    def __post_init__(self) -> None:
        if self.weights == self.activations == FLOAT:
            raise ValueError(
                "weights and activations of 32 bits quantise nothing; leave quantization out"
            )
        if self.quantizer == "lsq" and self.weights == 1:
            raise ValueError("lsq needs at least 2 bits for weights; choose 2 bits, or lq")


@dataclass(frozen=True, config=ConfigDict(extra="forbid"), kw_only=True)
class ClassifierConfig:
    """Which network to build.

    Args:
        name: A name in `NETWORKS`, of torchvision, or of timm ("timm/NAME" where both have one).
        classes: Number of classes.
        width: Multiplier on the channels, for MobileNetV2 (Table 4).
        weights: None trains from scratch; "imagenet" downloads torchvision's or timm's default;
            else the path of a file or folder of weights, or "package:NAME", see
            `rsseg.weights.source`. A head for another number of classes starts anew.
        options: Further arguments of the network, by name.
        quantization: How its convolutions are quantised; None for not at all. The networks named
            "preact_..." are made for quantised activations.
    """

    name: str = "resnet18"
    classes: Annotated[int, Field(ge=2)] = 1000
    width: Annotated[float, Field(gt=0, le=4)] = 1.0
    weights: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    quantization: QuantizationConfig | None = None

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not name.startswith(TIMM):
            check_name("network", name, [*_torchvision_names(), *timm.list_models()])
        else:
            check_name("network of timm", name.removeprefix(TIMM), timm.list_models())
        return name


def build_classifier(config: ClassifierConfig | None = None, **keywords: Any) -> nn.Module:
    """Build a network that maps images (B, 3, h, w) to logits (B, classes).

    Args:
        config: Which network; None takes the keywords.
        keywords: Fields of `ClassifierConfig`.

    Raises:
        TypeError: If both a config and keywords are given.
        ValueError: If a name or an option is unknown, or weights do not fit.
        ConnectionError: If weights cannot be downloaded; the message names another way.

    Example:
        >>> build_classifier(name="resnet18", classes=10).fc.out_features
        10
    """
    if config is not None and keywords:
        raise TypeError(f"give a config or keywords, not both; got keywords {sorted(keywords)}")
    config = config or validate(ClassifierConfig, keywords, "build_classifier")
    network = _build(config)
    if config.weights is not None:
        _load(network, config)
    return network if config.quantization is None else _quantize(network, config.quantization)


def _quantize(network: nn.Module, config: QuantizationConfig) -> nn.Module:
    settings = QuantizerSettings(basis=config.basis, momentum=config.momentum, debias=config.debias)
    return quantize(
        network,
        config.weights,
        config.activations,
        quantizer=config.quantizer,
        settings=settings,
    )


def _torchvision_names() -> list[str]:
    names: list[str] = torchvision.models.list_models(module=torchvision.models)
    return [*NETWORKS, *names]


def _build(config: ClassifierConfig) -> nn.Module:
    name, options = config.name, dict(config.options)
    if config.width != 1:
        if name not in ("mobilenetv2", "mobilenet_v2"):
            raise ValueError(
                f"width {config.width:g} is for mobilenetv2; {name} has no width multiplier"
            )
        options["width_mult"] = config.width
    try:
        network: nn.Module
        if name in NETWORKS:
            network = NETWORKS[name](num_classes=config.classes, **options)
        elif name in _torchvision_names():
            network = torchvision.models.get_model(name, num_classes=config.classes, **options)
        else:
            network = timm.create_model(
                name.removeprefix(TIMM), num_classes=config.classes, **options
            )
    except TypeError as error:
        raise ValueError(f"{name} refuses the options {options}: {error}") from error
    return network


def _load(network: nn.Module, config: ClassifierConfig) -> None:
    """Load weights; a head for other classes starts anew."""
    source = str(config.weights)
    if source == IMAGENET:
        name = f"the imagenet weights of {config.name}"
        weights = Weights(name=name, state=_download(config))
    else:
        weights = open_weights(source, key=KEY)
        refuse_checkpoint(weights, KEY)
    load_start(network, weights, key=KEY).announce()


def weights_record(config: ClassifierConfig, init: str | None) -> Record | None:
    """Return the normalisation that the weights of a classifier were trained with, if known.

    Args:
        config: The network.
        init: Weights that come before those of the network, see `open_weights`.

    Raises:
        ValueError: If a file cannot be read.
    """
    timms = config.name.removeprefix(TIMM) if is_timm(config.name) else None
    source, key = (config.weights, KEY) if init is None else (init, "init")
    if source is None:
        return None
    if init is not None or source != IMAGENET:
        record = recorded(source, key=key)
        return usual_record(timms) if record is None and timms else record
    if timms:
        return timm_record(timms)
    images = _torchvision_weights(config.name).DEFAULT.transforms()
    source = f"torchvision's record of {config.name}"
    return record_of({"mean": list(images.mean), "std": list(images.std)}, source)


def is_timm(name: str) -> bool:
    """Return whether a classifier of a name is timm's."""
    return name.startswith(TIMM) or name not in _torchvision_names()


def _torchvision_weights(name: str) -> Any:
    name = "mobilenet_v2" if name == "mobilenetv2" else name
    return torchvision.models.get_model_weights(name)


def _download(config: ClassifierConfig) -> State:
    name = config.name
    try:
        if is_timm(name):
            model = timm.create_model(name.removeprefix(TIMM), pretrained=True, **config.options)
            return dict(model.state_dict())
        return dict(
            _torchvision_weights(name).DEFAULT.get_state_dict(progress=True, check_hash=True)
        )
    except Exception as error:  # every client of the network raises errors of its own
        raise ConnectionError(
            f"could not download the imagenet weights of {config.name} "
            f"({type(error).__name__}); without a network, set model.weights to the path of a .pth "
            "or .safetensors file with its state dict, or to none"
        ) from error
