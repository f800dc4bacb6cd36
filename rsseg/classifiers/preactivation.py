"""The pre-activation ResNets of LQ-Nets, whose activations can be quantised to few bits.

A block begins with BatchNorm and ReLU where others end with them, so what is quantised is always
the output of a ReLU, and what is added never is. `QuantizationPoint`s stand there; they do nothing
until `rsseg.quantization.convert.quantize` is called.

Where the sources are silent: a projection on a shortcut is followed by a BatchNorm, as in
torchvision's ResNet, and a projection that changes no size (the first block of ResNet-50) reads
the raw input, as every shortcut of the first stage does. Stride lies in the 3x3 convolution.

Source: Zhang, Yang, Ye, Hua, "LQ-Nets", ECCV 2018, https://arxiv.org/abs/1807.10029, Section 4;
He et al., "Identity Mappings in Deep Residual Networks", ECCV 2016,
https://arxiv.org/abs/1603.05027.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from rsseg.quantization.convert import QuantizationPoint


def _convolution(channels_in: int, channels: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels, kernel, stride, padding=kernel // 2, bias=False)


class _Activation(nn.Sequential):
    """BatchNorm, ReLU, and a place to quantise."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.quant = QuantizationPoint()


class PreActivationBlock(nn.Module):
    """A residual block: convolutions with BatchNorm, ReLU and quantiser between, BatchNorm last.

    Args:
        channels_in: Channels of the input.
        widths: Channels of each convolution of the branch.
        kernels: Side of each of their kernels.
        stride: Of the first 3x3 convolution, and of the shortcut.
        entry: What the branch reads: the raw input quantised ("quantize"), the input as it is
            because it has been quantised before ("none"), or activated here ("activate").
    """

    def __init__(
        self,
        channels_in: int,
        widths: Sequence[int],
        kernels: Sequence[int],
        *,
        stride: int,
        entry: str,
    ) -> None:
        super().__init__()
        entries = {"quantize": QuantizationPoint, "none": nn.Identity}
        self.entry: nn.Module = entries[entry]() if entry in entries else _Activation(channels_in)
        sizes = [channels_in, *widths]
        strided = kernels.index(3)
        self.convs = nn.ModuleList(
            _convolution(sizes[i], sizes[i + 1], kernels[i], stride if i == strided else 1)
            for i in range(len(widths))
        )
        self.activations = nn.ModuleList(_Activation(width) for width in widths[:-1])
        self.bn = nn.BatchNorm2d(widths[-1])
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != widths[-1]:
            projection = _convolution(channels_in, widths[-1], 1, stride)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(widths[-1]))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C_in, h, w) to (B, C_out, h / stride, w / stride)."""
        branch: Tensor = self.convs[0](self.entry(x))
        for activation, conv in zip(self.activations, self.convs[1:], strict=True):
            branch = conv(activation(branch))
        output: Tensor = self.bn(branch) + self.shortcut(x)
        return output


class PreActivationResNet(nn.Module):
    """A ResNet of pre-activation blocks, from images (B, 3, H, W) to logits (B, num_classes).

    Args:
        blocks: Number of blocks of each of the four stages.
        bottleneck: Three convolutions in a block (1x1, 3x3, 1x1 with four times the channels)
            instead of two.
        num_classes: Number of classes.
        width: Channels of the first stage.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        *,
        bottleneck: bool,
        num_classes: int = 1000,
        width: int = 64,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.stages = len(blocks)
        channels = width
        for stage, count in enumerate(blocks):
            layers: list[nn.Module] = []
            for block in range(count):
                inner = width * 2**stage
                layers.append(
                    PreActivationBlock(
                        channels,
                        [inner, inner, 4 * inner] if bottleneck else [inner, inner],
                        [1, 3, 1] if bottleneck else [3, 3],
                        stride=2 if stage and not block else 1,
                        entry="activate" if block else "none" if stage else "quantize",
                    )
                )
                channels = 4 * inner if bottleneck else inner
            # Behind the last stage come pooling and the classifier, which are not quantised.
            end = _Activation(channels)
            if stage == len(blocks) - 1:
                del end.quant
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers, end))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 3, H, W) to logits (B, num_classes)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in range(self.stages):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        logits: Tensor = self.fc(self.avgpool(x).flatten(1))
        return logits


def _initialise(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


def preact_resnet18(num_classes: int = 1000, width: int = 64) -> PreActivationResNet:
    """Build the pre-activation ResNet-18."""
    return PreActivationResNet([2, 2, 2, 2], bottleneck=False, num_classes=num_classes, width=width)


def preact_resnet50(num_classes: int = 1000, width: int = 64) -> PreActivationResNet:
    """Build the pre-activation ResNet-50."""
    return PreActivationResNet([3, 4, 6, 3], bottleneck=True, num_classes=num_classes, width=width)
