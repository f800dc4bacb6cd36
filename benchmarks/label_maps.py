"""From the logits of a segmenter to the class of each pixel of a photo.

The peer resizes the logits of all classes bilinearly and takes the argmax; the former way does so
for some classes at a time. Ours computes only the pixels of cells between classes. How many those
are depends on the logits, so their share stands beside the times: drawn logits have regions like
those of a trained network, a third of the cells disputed; --network and --image take real ones.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

if not __package__:  # Run as a script: nothing is installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import Case, Measured, Work, print_and_append
from benchmarks.runner import make_parser, run
from rsseg.images.reading import read_image
from rsseg.runtime.predictor import Predictor
from rsseg.segmentation.cells import disputed_share
from rsseg.segmentation.label_maps import best_class_in_parts, predict_labels

SIZES = ((480, 640), (3000, 4000))
_WARM_SIZE = (48, 64)
_REGIONS = 6  # logits from one region to the next
_NOISE = 0.03  # of the logits' standard deviation

LabelMap = Callable[[Tensor, Sequence[int]], Tensor]


def resized_argmax(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Resize the logits of all classes, and take the best."""
    resized = F.interpolate(logits[None], size=tuple(size), mode="bilinear", align_corners=False)
    return resized[0].argmax(dim=0).to(torch.uint8)


def in_parts(logits: Tensor, size: Sequence[int]) -> Tensor:
    """Resize some classes at a time."""
    return best_class_in_parts(logits, size).to(torch.uint8)


WAYS: dict[str, LabelMap] = {
    "interpolate, argmax": resized_argmax,
    "some classes at a time": in_parts,
    "ours": partial(predict_labels, dtype=torch.uint8),
}


def drawn_logits(classes: int, side: int, seed: int) -> Tensor:
    """Draw logits with regions of one class and some noise, shape (K, side, side)."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, classes, *[max(2, side // _REGIONS)] * 2, generator=draw)
    # Few classes lie in an image: the others are far below.
    coarse[:, classes // 4 :] -= 2
    smooth = F.interpolate(coarse, size=(side, side), mode="bicubic")[0]
    return smooth + _NOISE * torch.randn(smooth.shape, generator=draw)


def network_logits(network: Path, image: Path, resolution: int | None) -> Tensor:
    """Return the logits of a segmenter for an image file, shape (K, h, w)."""
    return torch.from_numpy(Predictor.open(network).predict(read_image(image), resolution).logits)


def label_map_work(way: LabelMap, logits: Tensor, size: Sequence[int]) -> Work:
    """Prepare a label map; the share of disputed cells is noted."""
    share = disputed_share(logits.numpy(), size)
    return Work(
        lambda: way(logits, size),
        lambda: way(logits[:, :4, :4].contiguous(), _WARM_SIZE),
        notes={"disputed": share},
    )


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """Yield each size.

    Raises:
        ValueError: If only one of --network and --image is given.
    """
    if (options.network is None) != (options.image is None):
        raise ValueError("give --network and --image together, or neither")
    if options.network is None:
        logits = drawn_logits(options.classes, options.side, options.seed)
    else:
        logits = network_logits(options.network, options.image, options.resolution)
    described = {"classes": len(logits), "logits": list(logits.shape[1:])}
    described |= {"drawn": options.network is None}
    for size in SIZES:
        prepared = {name: partial(label_map_work, way, logits, size) for name, way in WAYS.items()}
        yield Case(f"{size[0]}x{size[1]}", prepared, {**described, "size": list(size)})


def finish(options: argparse.Namespace, case: Case, measured: list[Measured]) -> None:
    """Note the bytes a pixel of the result, print and append."""
    height, width = case.sizes["size"]
    noted = [
        m
        if m.memory is None
        else replace(m, notes={**m.notes, "bytes a pixel": m.memory / (height * width)})
        for m in measured
    ]
    print_and_append(options, case, noted)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = make_parser("label_maps", __doc__ or "", device="cpu")
    parser.add_argument("--classes", type=int, default=40, help="of drawn logits")
    parser.add_argument("--side", type=int, default=32, help="of drawn logits")
    parser.add_argument("--network", type=Path, help="file of a segmenter, with --image")
    parser.add_argument("--image", type=Path, help="file of the image that it predicts")
    parser.add_argument("--resolution", type=int, help="default: the network's largest")
    return run(__file__, parser, cases, arguments, finish=finish)


if __name__ == "__main__":
    sys.exit(main())
