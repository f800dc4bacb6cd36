"""The peers: the published form of a step and of its loss, written again by us.

Every layer maps over a list of S tensors, in fp32 and NCHW, and each Kullback-Leibler term of the
loss computes the log-softmax of its student and the softmax of its teacher anew. The numbers are
those of `rsseg.losses.mred`; only the way to them differs.

Source: Wang et al., ECCV 2020, https://arxiv.org/abs/2007.09558, Eq. 2 and Eq. 5 to 10; the ResNet
is that of He et al., CVPR 2016, https://arxiv.org/abs/1512.03385, as torchvision builds it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rsseg.losses.mred import MREDLosses

Maps = list[Tensor]


def pairwise_loss(
    logits: Sequence[Tensor], target: Tensor, scores: Tensor, *, ignore_index: int = 255
) -> MREDLosses:
    """Compute the full MRED loss, term by term.

    Args:
        logits: S tensors (B, K) or (B, K, H, W), largest resolution first.
        target: Classes, shape (B,) or (B, H, W), any integer type.
        scores: Raw ensemble scores, shape (S,).
        ignore_index: Target of the positions that teach nothing.
    """
    target = target.long()
    valid = target != ignore_index
    alpha = scores.softmax(dim=0)
    teacher = torch.stack([a * z.detach() for a, z in zip(alpha, logits, strict=True)]).sum(dim=0)
    classification = torch.stack(
        [F.cross_entropy(z, target, ignore_index=ignore_index) for z in logits]
    ).sum()
    ensemble = F.cross_entropy(teacher, target, ignore_index=ignore_index)
    students = [teacher, *logits]
    divergences = [
        _divergence(students[t].detach(), students[s], valid)
        for t in range(len(logits))
        for s in range(t + 1, len(students))
    ]
    distillation = 2 / (len(logits) + 1) * torch.stack(divergences).sum()
    total = classification + ensemble + distillation
    return MREDLosses(total, classification, ensemble, distillation)


def _divergence(teacher: Tensor, student: Tensor, valid: Tensor) -> Tensor:
    terms = F.kl_div(F.log_softmax(student, dim=1), F.softmax(teacher, dim=1), reduction="none")
    return (terms.sum(dim=1) * valid).sum() / valid.sum()


def straightforward_loss(logits: Sequence[Tensor], target: Tensor, scores: Tensor) -> MREDLosses:
    """Compute the loss of label maps (B, H, W) from logits of any size, resized to the labels'."""
    return pairwise_loss(resized(logits, target), target, scores)


def resized(logits: Sequence[Tensor], target: Tensor) -> Maps:
    """Resize logits (B, K, h, w) bilinearly to the size of label maps, in fp32."""
    size = target.shape[-2:]
    return [F.interpolate(z.float(), size=size, mode="bilinear") for z in logits]


class Each(nn.Module):
    """One layer, shared by all resolutions."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, xs: Maps) -> Maps:
        """Map the layer over the resolutions."""
        return [self.layer(x) for x in xs]


class EachNorm(nn.Module):
    """One BatchNorm for each resolution."""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.sets = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(count))

    def forward(self, xs: Maps) -> Maps:
        """Normalise each resolution by its own."""
        return [batchnorm(x) for batchnorm, x in zip(self.sets, xs, strict=True)]


def _conv(inputs: int, outputs: int, side: int, stride: int) -> Each:
    return Each(nn.Conv2d(inputs, outputs, side, stride, padding=side // 2, bias=False))


class Block(nn.Module):
    """Two convolutions beside the identity, or beside a 1x1 convolution where sizes change."""

    def __init__(self, inputs: int, outputs: int, stride: int, count: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(inputs, outputs, 3, stride), EachNorm(outputs, count)
        self.relu = Each(nn.ReLU(inplace=True))
        self.conv2, self.bn2 = _conv(outputs, outputs, 3, 1), EachNorm(outputs, count)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            shortcut = _conv(inputs, outputs, 1, stride)
            self.downsample = nn.Sequential(shortcut, EachNorm(outputs, count))

    def forward(self, xs: Maps) -> Maps:
        """Add the two convolutions' result to the input, for each resolution."""
        ys = self.relu(self.bn1(self.conv1(xs)))
        ys = self.bn2(self.conv2(ys))
        shortcut = xs if self.downsample is None else self.downsample(xs)
        sums: Maps = self.relu([y + x for y, x in zip(ys, shortcut, strict=True)])
        return sums


class ListResNet18(nn.Module):
    """ResNet-18 from S views (B, 3, r, r) to S logits (B, classes), layer by layer.

    Args:
        classes: Number of classes K.
        count: Number of resolutions S.
    """

    def __init__(self, classes: int, count: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(3, 64, 7, 2), EachNorm(64, count)
        self.relu = Each(nn.ReLU(inplace=True))
        self.maxpool = Each(nn.MaxPool2d(3, stride=2, padding=1))
        self.layer1 = nn.Sequential(*(Block(64, 64, 1, count) for _ in range(2)))
        self.layer2 = nn.Sequential(Block(64, 128, 2, count), Block(128, 128, 1, count))
        self.layer3 = nn.Sequential(Block(128, 256, 2, count), Block(256, 256, 1, count))
        self.layer4 = nn.Sequential(Block(256, 512, 2, count), Block(512, 512, 1, count))
        self.avgpool = Each(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
        self.fc = Each(nn.Linear(512, classes))
        self.scores = nn.Parameter(torch.ones(count))

    def forward(self, views: Sequence[Tensor]) -> Maps:
        """Compute the logits of all resolutions."""
        xs = self.maxpool(self.relu(self.bn1(self.conv1(list(views)))))
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            xs = layer(xs)
        logits: Maps = self.fc(self.avgpool(xs))
        return logits
