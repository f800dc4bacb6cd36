"""RefineNet on any encoder of segmentation-models-pytorch.

The features at 1/4, 1/8, 1/16 and 1/32 of the input are refined from the coarsest to the finest;
each stage joins the result of the coarser one. The logits have the size of the 1/4 feature and
are not upsampled. The decoder holds no BatchNorm, so switchable sets touch the encoder only.

Source: Lin et al., "RefineNet: Multi-Path Refinement Networks for High-Resolution Semantic
Segmentation", CVPR 2017, https://arxiv.org/abs/1611.06612, in the form with a 3x3 convolution
where each stage begins: it has the 118.31 M parameters of appendix C of Wang et al., "Resolution
Switchable Networks", ECCV 2020, https://arxiv.org/abs/2007.09558.
"""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F
from segmentation_models_pytorch.base import SegmentationModel
from segmentation_models_pytorch.base.hub_mixin import supports_config_loading
from segmentation_models_pytorch.encoders import get_encoder
from torch import Tensor, nn

from rsseg.segmentation.encoders import check_encoder_name, load_encoder_weights

STAGES = 4  # the features at 1/4, 1/8, 1/16 and 1/32


def _conv3x3(inputs: int, outputs: int, *, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=bias)


class ResidualConvUnit(nn.Module):
    """Two convolutions, each after a ReLU, beside the identity; shape (B, width, h, w) kept."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _conv3x3(width, width, bias=True)
        self.second = _conv3x3(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Add the two convolutions' result to the input."""
        residual: Tensor = self.second(F.relu(self.first(F.relu(x))))
        return x + residual


class ChainedResidualPooling(nn.Module):
    """Four rounds of max pooling and convolution, each added to the result; shape kept."""

    def __init__(self, width: int, *, rounds: int = 4) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(kernel_size=5, stride=1, padding=2)
        self.convs = nn.ModuleList(_conv3x3(width, width) for _ in range(rounds))

    def forward(self, x: Tensor) -> Tensor:
        """Start from relu(x) and add wider and wider context."""
        x = top = F.relu(x)
        for conv in self.convs:
            top = conv(self.pool(top))
            x = x + top
        return x


class RefineStage(nn.Module):
    """One stage: reduce the encoder's feature, join the coarser stage, refine.

    Args:
        inputs: Channels of the encoder's feature.
        width: Channels inside the stage and of its result.
        coarser: Channels of the coarser stage's result; None at the coarsest stage.
    """

    def __init__(self, inputs: int, width: int, *, coarser: int | None) -> None:
        super().__init__()
        self.reduce = _conv3x3(inputs, width)
        self.adapt = nn.Sequential(*(ResidualConvUnit(width) for _ in range(2)))
        if coarser is not None:
            self.fuse = _conv3x3(width, width)
            self.fuse_coarser = _conv3x3(coarser, width)
        self.pool = ChainedResidualPooling(width)
        self.refine = nn.Sequential(*(ResidualConvUnit(width) for _ in range(3)))

    def forward(self, feature: Tensor, coarser: Tensor | None = None) -> Tensor:
        """Refine a feature, shape (B, inputs, h, w), to shape (B, width, h, w)."""
        x: Tensor = self.adapt(self.reduce(feature))
        if coarser is not None:
            # To the feature's own size, so that no input size has to be a multiple of 32.
            context = self.fuse_coarser(coarser)
            x = self.fuse(x) + F.interpolate(
                context, size=x.shape[-2:], mode="bilinear", align_corners=True
            )
        refined: Tensor = self.refine(self.pool(x))
        return refined


class RefineNetDecoder(nn.Module):
    """The stages from 1/32 up to 1/4.

    Args:
        encoder_channels: Channels of the encoder's features, the coarsest last.
        width: Channels of the stages; the coarsest has twice as many.
        dropout: Rate on the two coarsest features.
    """

    def __init__(self, encoder_channels: list[int], width: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        coarsest, *others = reversed(encoder_channels[-STAGES:])
        stages = [RefineStage(coarsest, 2 * width, coarser=None)]
        for inputs in others:
            stages.append(
                RefineStage(inputs, width, coarser=width * (2 if len(stages) == 1 else 1))
            )
        # Checkpoints know the stages by this name.
        self.levels = nn.ModuleList(stages)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Join the features, the coarsest last, into one of shape (B, width, h/4, w/4)."""
        *fine, second, coarsest = features[-STAGES:]
        fine.append(self.dropout(second))
        x: Tensor = self.levels[0](self.dropout(coarsest))
        for stage, feature in zip(self.levels[1:], reversed(fine), strict=True):
            x = stage(feature, x)
        return x


class RefineNet(SegmentationModel):  # type: ignore[misc]  # the base class has no types
    """RefineNet with an encoder of segmentation-models-pytorch.

    Maps images (B, in_channels, h, w), h and w of any size, to logits (B, classes, h/4, w/4) (the
    size of the encoder's feature at a quarter of the input; encoders differ in rounding).

    Args:
        encoder_name: Encoder, as segmentation-models-pytorch names it; timm's start with "tu-".
        encoder_weights: None starts from random weights; a name such as "imagenet" downloads; the
            path of a .pth or .safetensors file reads that file.
        classes: Number of classes.
        decoder_channels: Width of the decoder.
        in_channels: Channels of the images.
        dropout: Rate before the classifier and on the two coarsest features of the encoder.
        encoder_options: Further arguments for the constructor of a "tu-" encoder.

    Raises:
        ValueError: If the encoder lacks one of the four features, or a number is out of range.

    Example:
        >>> import torch
        >>> network = RefineNet("resnet18", classes=3, decoder_channels=8).eval()
        >>> network(torch.zeros(1, 3, 75, 100)).shape
        torch.Size([1, 3, 19, 25])
    """

    requires_divisible_input_shape = False

    @supports_config_loading  # type: ignore  # the decorator has no types
    def __init__(
        self,
        encoder_name: str = "resnet101",
        encoder_weights: str | None = None,
        classes: int = 40,
        decoder_channels: int = 256,
        in_channels: int = 3,
        *,
        dropout: float = 0.5,
        **encoder_options: Any,
    ) -> None:
        super().__init__()
        _check_numbers(classes, decoder_channels, in_channels, dropout=dropout)
        self.encoder = _create_encoder(encoder_name, in_channels, encoder_options)
        self.decoder = RefineNetDecoder(self.encoder.out_channels, decoder_channels, dropout)
        self.segmentation_head = nn.Sequential(
            nn.Dropout(dropout), _conv3x3(decoder_channels, classes, bias=True)
        )
        self.classification_head = None
        self.name = f"refinenet-{encoder_name}"
        self._initialise()
        load_encoder_weights(self.encoder, encoder_name, encoder_weights)
        # Files of save_pretrained hold the weights; loading them must not fetch others.
        self.config["encoder_weights"] = None

    def generate_model_card(self, *args: Any, **kwargs: Any) -> Any:
        """Describe the saved network; its class is not among the library's own."""
        card = super().generate_model_card(*args, **kwargs)
        module = f"from {type(self).__module__} import {type(self).__name__}"
        card.text = card.text.replace("import segmentation_models_pytorch as smp", module)
        card.text = card.text.replace(
            "smp.from_pretrained", f"{type(self).__name__}.from_pretrained"
        )
        return card

    def _initialise(self) -> None:
        """Draw small weights: N(0, 0.25 / inputs of the convolution), biases 0.

        Without BatchNorm nothing holds the residual sums in range: with the library's default
        (He) the first logits are far too large. At the default width this is N(0, 0.01),
        usual for this decoder; the scaling keeps the first logits alike at every width.
        """
        for module in (*self.decoder.modules(), *self.segmentation_head.modules()):
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.5 / math.sqrt(9 * module.in_channels))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


def _check_numbers(*counts: int, dropout: float) -> None:
    for name, value in zip(("classes", "decoder_channels", "in_channels"), counts, strict=True):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be in [0, 1), got {dropout}")


def _create_encoder(name: str, in_channels: int, options: dict[str, Any]) -> Any:
    """Create an encoder (a class without types) with random weights, or raise ValueError."""
    check_encoder_name(name)
    if options and not name.startswith("tu-"):
        raise ValueError(f"only 'tu-' encoders take options; {name} got {sorted(options)}")
    requirement = "RefineNet joins features at 1/4, 1/8, 1/16 and 1/32 of the input"
    try:
        encoder = get_encoder(name, in_channels=in_channels, depth=5, weights=None, **options)
    except Exception as error:  # timm raises whatever fits the model; each means it cannot be used
        raise ValueError(f"{requirement}; encoder {name!r} cannot give them: {error}") from error
    channels = list(encoder.out_channels)
    if len(channels) != 6 or min(channels[-STAGES:]) == 0:
        raise ValueError(f"{requirement}; encoder {name!r} has features of {channels} channels")
    return encoder
