"""BatchNorm statistics of the lower resolutions, measured anew and kept only where they are better.

A trained network gets its own statistics at every resolution. Those measured anew at a lower one
may fit better, or much worse: on few or narrow images they are of these images, not of the task.
Which are better is measured as well, without labels or test images.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from rsseg.common.distributed import all_gather_object, average, is_main_process
from rsseg.common.messages import counted
from rsseg.switchable.convert import switchable_layers
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.unseen import recalibrate
from rsseg.training.config import RunConfig
from rsseg.training.task import EvalData


class Recalibration(NamedTuple):
    """What measuring the statistics of one resolution anew has changed.

    Attributes:
        name: The BatchNorm set.
        largest: The set whose answers are the measure.
        before: Divergence from those with the statistics that were copied, at least 0.
        after: The same with those measured anew.
        images: Images measured on.
    """

    name: str
    largest: str
    before: float
    after: float
    images: int

    @property
    def is_better(self) -> bool:
        """Whether the statistics measured anew are kept."""
        if not math.isfinite(self.after):
            return False
        return not math.isfinite(self.before) or self.after < self.before

    def __str__(self) -> str:
        kept = "the measured statistics are kept" if self.is_better else "the copied ones are kept"
        return (
            f"recalibrate {self.name}: divergence from the original at {self.largest} "
            f"{self.before:.4f} with its statistics, {self.after:.4f} with those measured on "
            f"{counted(self.images, 'image')}: {kept}"
        )


def recalibrate_start(config: RunConfig, net: SwitchableNet, data: EvalData) -> list[Recalibration]:
    r"""Measure the statistics below the largest resolution anew, and keep them where better.

    .. math:: d_r = \mathrm{mean} \; D_{kl}(p_R \| p_r)

    over training images as views of test, others than those measured on; p_R are the shares of the
    classes at the largest resolution R, of each pixel for a segmenter. One line for each resolution
    is printed. All processes have to call this, and get the same network.

    Args:
        config: Settings of the run; `adapt.recalibrate` is the number of images, at most half of
            those there are. Without it nothing is done.
        net: The network at the start of the run; changed in place.
        data: Gives the training images.
    """
    images = config.adapt.recalibrate if config.adapt else 0
    names, sides = net.resolutions.names, net.resolutions
    lower = [name for name, r in zip(names, sides, strict=True) if images and r < sides[0]]
    training = net.training
    net.eval()
    reports = [_recalibrated(net, _Views(config, net, data, images), name) for name in lower]
    net.train(training)
    if is_main_process():
        for report in reports:
            print(report, file=sys.stderr)
    return reports


class _Views:
    """Training images as normalised views of test, in two parts of about as many.

    Args:
        config: Settings of the run.
        net: The network that they are for.
        data: Gives the images.
        images: Images of a part, if there are so many.
    """

    def __init__(self, config: RunConfig, net: SwitchableNet, data: EvalData, images: int) -> None:
        self._resolutions, self._data, self._images = net.resolutions, data, images
        self._preprocessing, self._device = config.preprocessing, next(net.parameters()).device

    def part(self, number: int, name: str) -> Iterator[Tensor]:
        """Yield the batches of part 0 or 1 at the resolution of a set: the same images at each."""
        side = self._resolutions[self._resolutions.names.index(name)]
        for views in every_second(self._data.calibration(side, 2 * self._images), number):
            yield self._preprocessing.normalise(views.to(self._device))


def every_second(batches: Iterable[Tensor], number: int) -> Iterator[Tensor]:
    """Yield every second batch, from the one of `number`, 0 or 1; of a single one a half.

    A batch of one image has no halves, and is both.

    Raises:
        ValueError: If there is no batch.
    """
    rest = iter(batches)
    first, second = next(rest, None), next(rest, None)
    if first is None:
        raise ValueError(
            "adapt.recalibrate needs training images, and none could be read; set it to 0"
        )
    if second is not None:
        yield (first, second)[number]
        yield from islice(rest, number, None, 2)
    else:
        half = max(1, len(first) // 2)
        yield first[half:] if number and len(first) > 1 else first[:half]


def _recalibrated(net: SwitchableNet, views: _Views, name: str) -> Recalibration:
    """Measure one set, compare, and leave the better statistics in it."""
    layers = [layer.sets[name] for layer in switchable_layers(net)]
    buffers = [b for layer in layers if isinstance(layer, _BatchNorm) for b in layer.buffers()]
    copied = [buffer.clone() for buffer in buffers]
    count = 0

    def counting(batches: Iterable[Tensor]) -> Iterator[Tensor]:
        nonlocal count
        for batch in batches:
            count += len(batch)
            yield batch

    recalibrate(net, counting(views.part(0, name)), name)
    # Each process has measured the same images; kernels may round otherwise.
    average([buffer for buffer in buffers if buffer.is_floating_point()])
    measured = [buffer.clone() for buffer in buffers]
    before, after = _divergences(net, views, name, buffers, (copied, measured))
    largest = net.resolutions.names[0]
    # What the first process has found goes for all.
    report = all_gather_object(Recalibration(name, largest, before, after, count))[0]
    _set(buffers, measured if report.is_better else copied)
    return report


def _set(buffers: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for buffer, value in zip(buffers, values, strict=True):
        buffer.copy_(value)


@torch.no_grad()
def _divergences(
    net: SwitchableNet,
    views: _Views,
    name: str,
    buffers: Sequence[Tensor],
    choices: Sequence[Sequence[Tensor]],
) -> list[float]:
    """Return the mean divergence from the answers of the largest set, with each choice."""
    largest = net.resolutions.names[0]
    sums, count = [0.0 for _ in choices], 0
    for large, view in zip(views.part(1, largest), views.part(1, name), strict=True):
        teacher = net.predict(large, largest).float()
        for place, values in enumerate(choices):
            _set(buffers, values)
            sums[place] += len(view) * float(_divergence(teacher, net.predict(view, name).float()))
        count += len(view)
    return [value / count for value in sums]


def _divergence(teacher: Tensor, student: Tensor) -> Tensor:
    """Return the mean of D_kl(teacher || student) over images, and over pixels of the map.

    Args:
        teacher: Logits, shape (B, K) or (B, K, h, w).
        student: Logits, the same shape, or another size of the map.
    """
    if teacher.dim() == 4:
        student = F.interpolate(student, size=teacher.shape[-2:], mode="bilinear")
    log_p, log_q = teacher.log_softmax(1), student.log_softmax(1)
    return (log_p.exp() * (log_p - log_q)).sum(1).mean()
