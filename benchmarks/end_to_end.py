"""From the bytes of a JPEG to its label map at the size of the photo, or to its classes.

The peer decodes the whole photo by Pillow, resizes it, computes the network as it is, in eager mode
and NCHW, resizes the logits of all classes and takes the argmax. Ours is the predictor that
`rsseg predict` and `rsseg serve` answer through. The last case of each photo sets ours at the
smallest resolution against ours at the largest, and both against the network alone: "share" is how
much of what the network gains by switching is left end to end.

Weights are drawn. So are the logits that a segmenter's label map is made of, with regions like
those of a trained network, see `label_maps`; those of the network are computed and dropped.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image as Pictures
from torch import Tensor, nn

if not __package__:  # Run as a script: nothing is installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import Case, Measured, Work, print_and_append
from benchmarks.label_maps import drawn_logits, resized_argmax
from benchmarks.runner import make_parser, run
from rsseg.images.photo import Photo
from rsseg.images.preprocessing import Preprocessing
from rsseg.runtime.budget.measure import drawn_photo
from rsseg.runtime.description import Description
from rsseg.runtime.executors import TorchExecutor
from rsseg.runtime.predictor import Predictor
from rsseg.segmentation.refinenet import RefineNet
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.resolutions import Resolutions

SIZES = ((480, 640), (3000, 4000))
_CLASSES = 40
_GRAIN = 3  # grey levels of noise that a large photo has in each pixel
_SMALLEST_CELL = 2  # logits of the smallest region that can be drawn


class DrawnLogits(nn.Module):
    """A segmenter whose answers are drawn: its own logits are computed and dropped.

    Args:
        network: From images to logits.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._drawn: dict[int, Tensor] = {}

    def forward(self, images: Tensor) -> Tensor:
        """Return logits of the shape of the network's, the same at each call."""
        _, classes, side, _ = self.network(images).shape
        if side not in self._drawn:
            self._drawn[side] = drawn_logits(classes, max(side, _SMALLEST_CELL), seed=0)[None]
        return self._drawn[side]


@dataclass(frozen=True)
class Subject:
    """A network that is measured.

    Args:
        name: Its name.
        task: "segmentation" or "classification".
        build: Builds it.
        resolutions: Sides of its views.
    """

    name: str
    task: str
    build: Callable[[], nn.Module]
    resolutions: tuple[int, ...]


def refinenet() -> nn.Module:
    """Build RefineNet-ResNet18 of 40 classes whose logits are drawn."""
    return DrawnLogits(RefineNet("resnet18", classes=_CLASSES))


SUBJECTS = (
    Subject("RefineNet-ResNet18", "segmentation", refinenet, (352, 224, 96)),
    Subject("ResNet-18", "classification", torchvision.models.resnet18, (224, 96)),
)


def make_net(subject: Subject) -> SwitchableNet:
    """Build a network of drawn weights, in evaluation mode."""
    return SwitchableNet(subject.build(), subject.resolutions).eval()


def make_predictor(subject: Subject, net: SwitchableNet) -> Predictor:
    """Return the predictor of a network."""
    count = _CLASSES if subject.task == "segmentation" else 1000
    description = Description(
        task=subject.task,
        name=subject.name,
        classes=tuple(f"class {index}" for index in range(count)),
        resolutions=Resolutions(subject.resolutions),
        preprocessing=Preprocessing(),
    )
    return Predictor(TorchExecutor(net), description)


def photo_bytes(size: tuple[int, int]) -> bytes:
    """Return a JPEG of the given height and width."""
    content = drawn_photo()
    with Pictures.open(BytesIO(content)) as picture:
        if picture.size == size[::-1]:
            return content
        pixels = cv2.resize(np.asarray(picture), size[::-1], interpolation=cv2.INTER_CUBIC)
    noise = np.random.default_rng(0).standard_normal((*size, 1), np.float32)
    grainy = (pixels + _GRAIN * noise).clip(0, 255).astype(np.uint8)
    stream = BytesIO()
    Pictures.fromarray(grainy).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def plain_view(content: bytes, preprocessing: Preprocessing, resolution: int) -> Tensor:
    """Decode the whole photo and resize it, shape (1, 3, resolution, resolution)."""
    with Pictures.open(BytesIO(content)) as picture:
        pixels = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None]
    size = (resolution, resolution)
    view = F.interpolate(pixels, size=size, mode="bilinear", antialias=True)
    return preprocessing.normalise(view)


def straightforward(
    predictor: Predictor, net: SwitchableNet, content: bytes, resolution: int
) -> Tensor:
    """Answer as the peer does: a label map (H, W), or the probabilities of classes (K,)."""
    view = plain_view(content, predictor.preprocessing, resolution)
    with torch.no_grad():
        logits = net.predict(view, resolution)[0]
        if logits.ndim == 1:
            return logits.softmax(dim=0)
        with Pictures.open(BytesIO(content)) as picture:
            width, height = picture.size
        return resized_argmax(logits, (height, width))


def answer(predictor: Predictor, content: bytes, resolution: int) -> Tensor:
    """Answer as `rsseg predict` and `rsseg serve` do."""
    prediction = predictor.predict(Photo(content), resolution)
    if prediction.label_map is None:
        return torch.from_numpy(prediction.probabilities)
    return torch.from_numpy(prediction.label_map)


class EndToEnd:
    """The variants of one network and one photo.

    Args:
        predictor: Of the network.
        net: The network itself.
        content: A JPEG.
        passes: Answers of ours in one round, where they are set against each other.
    """

    def __init__(
        self, predictor: Predictor, net: SwitchableNet, content: bytes, passes: int
    ) -> None:
        self.predictor, self.net, self.content, self.passes = predictor, net, content, passes

    def peer(self, resolution: int) -> Work:
        """The straightforward way."""
        return Work(lambda: straightforward(self.predictor, self.net, self.content, resolution))

    def ours(self, resolution: int, passes: int = 1) -> Work:
        """Ours, with the milliseconds of each stage, once, as notes."""
        predicted = self.predictor.predict(Photo(self.content), resolution)
        stages = {f"{name}, ms": value for name, value in predicted.stages.rounded(2).items()}
        del stages["encode, ms"]  # Answers are not written here.

        def call() -> None:
            for _ in range(passes):
                answer(self.predictor, self.content, resolution)

        return Work(call, units=passes, notes=stages)

    def network(self, resolution: int) -> Work:
        """The network alone, of ours."""
        view = plain_view(self.content, self.predictor.preprocessing, resolution).numpy()

        def call() -> None:
            for _ in range(self.passes):
                self.predictor.executor.logits(view, resolution)

        return Work(call, units=self.passes)

    def switched(self) -> dict[str, Callable[[], Work]]:
        """Return ours and the network alone, at the largest and the smallest resolution."""
        ends = self.predictor.resolutions[0], self.predictor.resolutions[-1]
        return {
            **{f"ours, {side}": partial(self.ours, side, self.passes) for side in ends},
            **{f"network, {side}": partial(self.network, side) for side in ends},
        }


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """Yield each network, photo and resolution, then the change of resolution."""
    for subject in SUBJECTS:
        net = make_net(subject)
        predictor = make_predictor(subject, net)
        for size in SIZES:
            photo = f"{subject.name}, {size[0]}x{size[1]}"
            at = EndToEnd(predictor, net, photo_bytes(size), 2 if options.short else 10)
            sizes = {"network": subject.name, "photo": list(size)}
            for side in subject.resolutions:
                variants = {"peer": partial(at.peer, side), "ours": partial(at.ours, side)}
                described = {**sizes, "resolution": side}
                yield Case(f"{photo}, {side} pixels", variants, described, memory=False)
            ends = [subject.resolutions[0], subject.resolutions[-1]]
            described = {**sizes, "resolutions": ends, "passes": at.passes}
            yield Case(f"{photo}, switched", at.switched(), described, memory=False)


def finish(options: argparse.Namespace, case: Case, measured: list[Measured]) -> None:
    """Note the share of the network's ratio that is left end to end; print and append."""
    times = {m.variant: m.times for m in measured}
    if "resolutions" in case.sizes:
        large, small = case.sizes["resolutions"]
        share = ratio(times, "ours", large, small) / ratio(times, "network", large, small)
        measured = [
            replace(m, notes={**m.notes, "share": share}) if m.variant == f"ours, {small}" else m
            for m in measured
        ]
    print_and_append(options, case, measured)


def ratio(times: dict[str, list[float]], what: str, large: int, small: int) -> float:
    """Return the median over the rounds of time(large) / time(small)."""
    pairs = zip(times[f"{what}, {large}"], times[f"{what}, {small}"], strict=True)
    return statistics.median(slow / fast for slow, fast in pairs)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = make_parser("end_to_end", str(__doc__), threads=1, device="cpu")
    return run(__file__, parser, cases, arguments, finish=finish)


if __name__ == "__main__":
    sys.exit(main())
