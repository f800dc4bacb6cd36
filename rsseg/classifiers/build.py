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
from pathlib import Path
from typing import Annotated, Any

import timm
import torchvision
from pydantic import ConfigDict, Field, field_validator
from pydantic.dataclasses import dataclass
from torch import nn

from rsseg.classifiers.preactivation import preact_resnet18, preact_resnet50
from rsseg.common.checkpoint import load_weights
from rsseg.common.config import validate
from rsseg.common.messages import check_name
from rsseg.common.state_files import State, read_state
from rsseg.quantization.convert import FLOAT, QUANTIZERS, QuantizerSettings, quantize
from rsseg.quantization.quantizer import BITS
from rsseg.switchable.layers import Sharing

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
# The layer that returns the logits, by torchvision's and timm's names for it.
_HEADS = ("fc", "classifier", "head")


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
            else the path of a .pth or .safetensors file with a state dict. Weights of a head for
            another number of classes are left out.
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
    """Load weights; those of a head for other classes are left out."""
    weights = str(config.weights)
    if weights == "imagenet":
        state, source = _download(config), f"the imagenet weights of {config.name}"
    elif Path(weights).is_file():
        state, source = read_state(Path(weights)), weights
    else:
        raise ValueError(
            f"there is no file {weights!r}; give model.weights the path of a .pth or "
            ".safetensors file with a state dict, 'imagenet', or none"
        )
    own = network.state_dict()
    state = {key.removeprefix("module."): value for key, value in state.items()}
    for key, value in own.items():
        # Files older than this counter lack it.
        if key.endswith("num_batches_tracked"):
            state.setdefault(key, value)
        if key in state and key.startswith(_HEADS) and state[key].shape != value.shape:
            state[key] = value
    # The file may hold auxiliary classifiers, which `_PLAIN` leaves out of the network.
    auxiliary = [k for k in state if k not in own and k.startswith(("aux", "AuxLogits"))]
    for key in auxiliary:
        del state[key]
    load_weights(network, state, source)


def _download(config: ClassifierConfig) -> State:
    name = config.name
    try:
        if name.startswith(TIMM) or name not in _torchvision_names():
            model = timm.create_model(name.removeprefix(TIMM), pretrained=True, **config.options)
            return dict(model.state_dict())
        name = "mobilenet_v2" if name == "mobilenetv2" else name
        enum = torchvision.models.get_model_weights(name)
        return dict(enum.DEFAULT.get_state_dict(progress=True, check_hash=True))
    except Exception as error:  # every client of the network raises errors of its own
        raise ConnectionError(
            f"could not download the imagenet weights of {config.name} "
            f"({type(error).__name__}); without a network, set model.weights to the path of a .pth "
            "or .safetensors file with its state dict, or to none"
        ) from error
