"""From image files to the classes a classifier sees in them: the work of `rsseg predict`.

Everything that can be checked is checked before the network runs. Segmenters are in `segment`;
accuracies on a data set are measured by `train_cls.py --evaluate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from rsseg.common.files import check_output, write_csv
from rsseg.common.messages import percent, text_table
from rsseg.images.photo import Photo
from rsseg.runtime.predict.images import (
    TimedPredictor,
    check_distinct,
    check_images,
    time_cells,
    time_titles,
)
from rsseg.runtime.predictor import Predictor
from rsseg.runtime.stages import Stages


@dataclass(frozen=True)
class Answer:
    """The most probable classes of one image at one resolution.

    Args:
        image: The image's file.
        resolution: Side of the view in pixels.
        classes: Names of the classes, the most probable first.
        probabilities: Their probabilities, 0..1.
        stages: Milliseconds by stage; those of the network are the median of a few passes.
    """

    image: Path
    resolution: int
    classes: tuple[str, ...]
    probabilities: tuple[float, ...]
    stages: Stages


def classify_files(
    classifier: Predictor,
    images: Sequence[Path],
    *,
    resolutions: Sequence[int],
    top: int = 3,
    out: Path | None = None,
    overwrite: bool = False,
) -> list[Answer]:
    """Classify image files; each is read once, and decoded as large as its views need.

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
            damaged (most are noticed before the first is classified).
        OSError: If a file cannot be opened or written.
    """
    _check_given(images, resolutions, top)
    if out is not None:
        _check_output(out, overwrite=overwrite)
    timed, answers = TimedPredictor(classifier), []
    for path in tqdm(images, desc="predict", unit="image", disable=len(images) == 1):
        photo = Photo.open(path)
        for resolution in resolutions:
            prediction = timed.predict(photo, resolution)
            classes, probabilities = zip(*prediction.top(top), strict=True)
            answers.append(Answer(path, resolution, classes, probabilities, prediction.stages))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_csv(predictions_file(out), as_rows(answers))
    return answers


def predictions_file(out: Path) -> Path:
    """Return the path of predictions.csv in `out`."""
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
            "milliseconds": round(answer.stages.prediction, 3),
            "network_ms": round(answer.stages.network, 3),
            "decode_ms": round(answer.stages.decode, 3),
            "view_ms": round(answer.stages.view, 3),
            "classes_ms": round(answer.stages.answer, 3),
            "total_ms": round(answer.stages.total, 3),
        }
        for answer in answers
        for rank, (name, probability) in enumerate(
            zip(answer.classes, answer.probabilities, strict=True), start=1
        )
    ]


def table(answers: Sequence[Answer]) -> str:
    """Return answers as text, one line for each image and resolution."""
    ranks = range(1, 1 + max(len(answer.classes) for answer in answers))
    head = ["image", "resolution", *time_titles(dense=False)]
    lines = [[*head, *(f"top {rank}" for rank in ranks)]]
    for a in answers:
        best = zip(a.classes, a.probabilities, strict=True)
        named = [f"{name} {percent(probability, unit=' %')}" for name, probability in best]
        times = time_cells(a.stages, dense=False)
        lines.append([a.image.name, f"{a.resolution}", *times, *named])
    return text_table(lines, "<" + ">" * (len(head) - 1) + "<")


def _check_given(images: Sequence[Path], resolutions: Sequence[int], top: int) -> None:
    check_distinct(resolutions)
    if top < 1:
        raise ValueError(f"--top must be at least 1, got {top}")
    check_images(images)


def _check_output(out: Path, *, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file, expected a folder for the results")
    if out.is_dir():
        check_output(predictions_file(out), overwrite=overwrite)
