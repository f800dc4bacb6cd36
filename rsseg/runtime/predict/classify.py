"""From image files to the classes a classifier sees in them: the work of `rsseg predict`.

Everything that can be checked is checked before the network runs. Segmenters are in
`segmentation.predict_files`; accuracies on a data set are measured by `train_cls.py --evaluate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from rsseg.common.files import check_output, write_csv
from rsseg.common.messages import text_table
from rsseg.images.preprocessing import Image, Preprocessing
from rsseg.images.reading import image_size, read_image
from rsseg.runtime.predict.timed_network import TimedNetwork
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.resolutions import Resolutions


@dataclass(frozen=True)
class Answer:
    """What a classifier says about one image at one resolution.

    Args:
        image: The image's file.
        resolution: Side of the view in pixels.
        classes: Names of the classes, the most probable first.
        probabilities: Their probabilities, 0..1.
        milliseconds: Median time of a few passes of the network alone, for one image.
    """

    image: Path
    resolution: int
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    milliseconds: float


class Classifier:
    """A network, ready to classify images of any size at any resolution.

    Args:
        net: A network that was trained, from views to logits (B, K).
        preprocessing: How it reads images; the one of its checkpoint.
        classes: Names of its K classes, in the order of the logits.
        device: Where it is moved to; default: where it is.
    """

    def __init__(
        self,
        net: SwitchableNet,
        preprocessing: Preprocessing,
        classes: Sequence[str],
        *,
        device: str | torch.device | None = None,
    ) -> None:
        self.net = net
        self.classes = tuple(classes)
        self.timed = TimedNetwork(net, preprocessing, name="the classifier", device=device)

    def __call__(self, image: Image, resolution: int) -> tuple[Tensor, float]:
        """Classify an image at one resolution.

        Args:
            image: RGB, uint8, shape (H, W, 3).
            resolution: Side of the view in pixels; one that was not trained uses `net.unseen`.

        Returns:
            The probability of each class, shape (K,), and the milliseconds of the network alone,
            measured once for each size of the view.

        Raises:
            ValueError: If the network cannot read a view of this size, or its logits are not
                those of the classes, or not finite.
        """
        logits, milliseconds = self.timed.predict(image, resolution)
        self._check(logits)
        return logits[0].float().softmax(0).cpu(), milliseconds

    def _check(self, logits: Tensor) -> None:
        if logits.shape != (1, len(self.classes)):
            raise ValueError(
                f"the classifier gives logits of shape {tuple(logits.shape)}, expected "
                f"(1, {len(self.classes)}) for {len(self.classes)} named classes"
            )
        if not logits.isfinite().all():
            raise ValueError(
                "the classifier gives logits that are not finite; its training has failed, use "
                "another checkpoint"
            )


def classify_files(
    classifier: Classifier,
    images: Sequence[Path],
    *,
    resolutions: Sequence[int],
    top: int = 3,
    out: Path | None = None,
    overwrite: bool = False,
) -> list[Answer]:
    """Classify image files; each is read once for all resolutions.

    Args:
        classifier: The classifier.
        images: Image files.
        resolutions: Sides of the views in pixels, from large to small.
        top: How many classes an answer names, at most.
        out: Folder for predictions.csv, made if need be; default: nothing is written.
        overwrite: Write over a file that exists.

    Returns:
        One answer for each image and resolution, in this order.

    Raises:
        ValueError: If something given is not valid, the file to be written exists, or an image is
            damaged, which most are found to be before the first is classified.
        OSError: If a file cannot be opened or written.
    """
    _check_given(images, resolutions, top)
    if out is not None:
        _check_output(out, overwrite=overwrite)
    answers = []
    for path in tqdm(images, desc="predict", unit="image", disable=len(images) == 1):
        image = read_image(path)
        for resolution in resolutions:
            probabilities, milliseconds = classifier(image, resolution)
            best = _best(probabilities, top, classifier.classes)
            answers.append(Answer(path, resolution, *best, milliseconds))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_csv(predictions_file(out), as_rows(answers))
    return answers


def predictions_file(out: Path) -> Path:
    """Tell where in a folder the answers are written."""
    return out / "predictions.csv"


def as_rows(answers: Sequence[Answer]) -> list[dict[str, str | int | float]]:
    """Return one row for each answer and class, as `write_csv` takes them."""
    return [
        {
            "image": str(answer.image),
            "resolution": answer.resolution,
            "rank": rank,
            "class": name,
            "probability": round(probability, 6),
            "milliseconds": round(answer.milliseconds, 3),
        }
        for answer in answers
        for rank, (name, probability) in enumerate(
            zip(answer.classes, answer.probabilities, strict=True), start=1
        )
    ]


def table(answers: Sequence[Answer]) -> str:
    """Lay out answers as text, one line for each image and resolution."""
    ranks = range(1, 1 + max(len(answer.classes) for answer in answers))
    lines = [["image", "resolution", "latency", *(f"top {rank}" for rank in ranks)]]
    for a in answers:
        best = zip(a.classes, a.probabilities, strict=True)
        named = [f"{name} {100 * probability:.1f} %" for name, probability in best]
        lines.append([a.image.name, f"{a.resolution}", f"{a.milliseconds:.1f} ms", *named])
    return text_table(lines, "<>><")


def _best(
    probabilities: Tensor, top: int, classes: Sequence[str]
) -> tuple[tuple[str, ...], tuple[float, ...]]:
    # Stable: of equal classes the earlier one comes first, as in the evaluation.
    values, order = probabilities.sort(descending=True, stable=True)
    return tuple(classes[index] for index in order[:top].tolist()), tuple(values[:top].tolist())


def _check_given(images: Sequence[Path], resolutions: Sequence[int], top: int) -> None:
    repeated = [r for r in Resolutions(resolutions) if list(resolutions).count(r) > 1]
    if repeated:
        raise ValueError(f"resolution {repeated[0]} is given twice; give each once")
    if top < 1:
        raise ValueError(f"--top must be at least 1, got {top}")
    if not images:
        raise ValueError("no image given; give image files or folders with images")
    # Reads only the beginnings of the files: a foreign one is found before hours of work.
    for image in images:
        image_size(image)


def _check_output(out: Path, *, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file, expected a folder for the results")
    if out.is_dir():
        check_output(predictions_file(out), overwrite=overwrite)
