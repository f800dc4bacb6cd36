"""BatchNorm over the images of all processes.

On CUDA that is PyTorch's own layer. It refuses the CPU, where the same is done here with plain
operations: slower, but enough to train with a few processes and to hold both together by tests.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rsseg.common.distributed import all_reduce_, world_size

_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class _Sum(torch.autograd.Function):
    """The sum over all processes, each of which gets the gradient of all."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        all_reduce_(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        all_reduce_(total)
        return total


class SyncBatchNorm(_BatchNorm):
    """A BatchNorm that in training normalises with the statistics of all processes' inputs."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected an input (B, C, ...), got shape {tuple(input.shape)}")

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, ...); all processes have to be here in training."""
        if not self.training or world_size() == 1:
            return super().forward(x)
        self._check_input_dim(x)
        values = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        mean, variance, count = self._statistics(values)
        self._learn(mean.detach(), variance.detach(), count)
        shape = (1, -1, *[1] * (x.dim() - 2))
        scale = (variance + self.eps).rsqrt()
        if self.affine:
            scale = scale * self.weight
        output = (values - mean.view(shape)) * scale.view(shape)
        if self.affine:
            output = output + self.bias.view(shape)
        return output.to(x.dtype)

    def _statistics(self, values: Tensor) -> tuple[Tensor, Tensor, int]:
        """Return mean and variance of each channel, and how many values they are of."""
        axes = [axis for axis in range(values.dim()) if axis != 1]
        number = values.new_full((1,), values.numel() / values.shape[1])
        sums = _Sum.apply(torch.cat([values.sum(axes), number]))
        count = int(sums[-1].item())
        if count < 2:
            raise ValueError(
                f"expected more than 1 value per channel when training, got {tuple(values.shape)}"
            )
        mean = sums[:-1] / count
        centred = values - mean.view(1, -1, *[1] * (values.dim() - 2))
        # Of what is centred: the mean of squares less the square of the mean would cancel.
        return mean, _Sum.apply(centred.square().sum(axes)) / count, count

    @torch.no_grad()
    def _learn(self, mean: Tensor, variance: Tensor, count: int) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        unbiased = variance * (count / (count - 1))
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)


def synchronise_batchnorms(network: nn.Module, device: torch.device) -> None:
    """Make every BatchNorm of a network one over all processes, in place.

    Parameters, buffers and their names stay.

    Args:
        network: The network.
        device: Where it is trained.

    Raises:
        ValueError: If a BatchNorm is of a kind that cannot be synchronised here, such as one with
            a fused activation on the CPU.
    """
    made: dict[nn.Module, nn.Module] = {}  # One layer may hang in several places.
    for parent in list(network.modules()):
        for name, child in parent._modules.items():
            if isinstance(child, _BatchNorm) and not isinstance(child, SyncBatchNorm):
                made.setdefault(child, _synchronised(child, device))
                setattr(parent, name, made[child])


def _synchronised(layer: _BatchNorm, device: torch.device) -> nn.Module:
    if device.type == "cuda" and type(layer) in (*_PLAIN, nn.SyncBatchNorm):
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(  # type: ignore[no-untyped-call]
            layer
        )
        return converted
    if device.type == "cuda" and hasattr(layer, "act"):  # timm's, with a fused activation
        fused: nn.Module = convert_sync_batchnorm(layer)
        return fused
    if type(layer) not in _PLAIN:
        raise ValueError(
            f"sync_batchnorm cannot synchronise a {type(layer).__name__} on {device.type}; "
            "set it to false, or choose a network with plain BatchNorms"
        )
    return _plain_copy(layer)


def _plain_copy(layer: _BatchNorm) -> SyncBatchNorm:
    """Return a layer of our kind that shares parameters and buffers."""
    copy = SyncBatchNorm(
        layer.num_features,
        layer.eps,
        layer.momentum,
        layer.affine,
        layer.track_running_stats,
    )
    copy._parameters, copy._buffers = layer._parameters, layer._buffers
    return copy.train(layer.training)
