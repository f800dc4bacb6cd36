"""From image files to files of label maps, overlays and pictures: the work of `rsseg predict`.

Everything that can be checked is checked before the first network runs, and no file that exists
is written over unless that is asked for.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from PIL import Image as Pictures
from tqdm import tqdm

from rsseg.common.figures import save_figure
from rsseg.common.files import written_whole
from rsseg.common.messages import percent, text_table
from rsseg.images.photo import Photo
from rsseg.images.preprocessing import LabelMap
from rsseg.runtime.budget.measure import drawn_image
from rsseg.runtime.predict.images import (
    TimedPredictor,
    check_distinct,
    check_images,
    repeated,
    time_cells,
    time_titles,
)
from rsseg.runtime.predict.truth import TruthFiles, pixel_accuracy, read_truth
from rsseg.runtime.predictor import Predictor
from rsseg.runtime.stages import Stages
from rsseg.segmentation.figure import DOTS_PER_INCH, Panel, Row, comparison_figure
from rsseg.segmentation.legend import legend_entries, with_legend
from rsseg.segmentation.palette import label_png, overlay, png_bytes

FIGURE_ROWS = 6  # Images in the common figure; with more of them it no longer fits a screen.


@dataclass(frozen=True)
class OutputFolder:
    """Where the files of a prediction lie.

    Label maps are `labels/NETWORK_RESOLUTION/IMAGE.png`, so that each of these folders can be
    used as ground truth again; overlays likewise, pictures are `side_by_side/IMAGE.png`.
    """

    root: Path

    def labels(self, image: Path, network: str, resolution: int) -> Path:
        """Label map: PNG with a palette; its values are the class of each pixel."""
        return self.root / "labels" / _folder(network, resolution) / f"{image.stem}.png"

    def overlay(self, image: Path, network: str, resolution: int) -> Path:
        """Colours of the label map over the image, with a legend."""
        return self.root / "overlays" / _folder(network, resolution) / f"{image.stem}.png"

    def picture(self, image: Path) -> Path:
        """Side-by-side picture of one image."""
        return self.root / "side_by_side" / f"{image.stem}.png"

    @property
    def folders(self) -> list[Path]:
        """Where label maps, overlays and pictures lie."""
        return [self.root / name for name in ("labels", "overlays", "side_by_side")]

    @property
    def figure(self) -> Path:
        """The figure of several images."""
        return self.root / "fig8.png"

    def files(
        self,
        images: Sequence[Path],
        networks: Sequence[str],
        resolutions: Sequence[int],
        *,
        pictures: bool = True,
    ) -> list[Path]:
        """Return every file that will be written, with pictures and overlays or without them."""
        places = list(product(images, networks, resolutions))
        files = [self.labels(*place) for place in places]
        if pictures:
            files += [self.figure] if len(images) > 1 else []
            files += [self.picture(image) for image in images]
            files += [self.overlay(*place) for place in places]
        return files


@dataclass(frozen=True)
class Result:
    """One line of the table.

    Args:
        image: Name of the image's file.
        network: Name of the network.
        resolution: Side of the view in pixels.
        stages: Milliseconds by stage, from the bytes of the image to the file of its label map;
            those of the network are the median of a few passes.
        accuracy: Share of the pixels that are correct, 0..1; None without ground truth.
    """

    image: str
    network: str
    resolution: int
    stages: Stages
    accuracy: float | None


def predict_files(
    predictors: Sequence[Predictor],
    images: Sequence[Path],
    out: Path,
    *,
    resolutions: Sequence[int] | None = None,
    truth: TruthFiles | None = None,
    legend: bool = True,
    pictures: bool = True,
    overwrite: bool = False,
) -> list[Result]:
    """Predict image files and write label maps, overlays and pictures.

    Photos are decoded as large as their views need; overlays and pictures need them whole.

    Args:
        predictors: Networks of the same classes, with different names.
        images: Image files with different names.
        out: Folder that is written to, see `OutputFolder`; made if need be.
        resolutions: Sides of the views in pixels, from large to small; default: see
            `common_resolutions`.
        truth: Where the ground truth lies, if there is one.
        legend: Draw a legend of the classes that occur below each overlay, or beside it.
        pictures: Write overlays and pictures, not label maps alone.
        overwrite: Write over files that exist.

    Returns:
        One result for each image, network and resolution, in this order.

    Raises:
        ValueError: If networks, resolutions or files do not fit together, a file to be written
            exists, or an image or a label file is damaged.
        OSError: If a file cannot be opened or written.
    """
    check_networks(predictors)
    resolutions = common_resolutions(predictors) if resolutions is None else resolutions
    check_distinct(resolutions)
    _check_names(images)
    check_images(images)
    labels = truth.find(images) if truth else {}
    decoder = truth.decoder([*labels.values()]) if truth else None
    folder = OutputFolder(out)
    names = [predictor.name for predictor in predictors]
    written = folder.files(images, names, resolutions, pictures=pictures)
    _check_output(folder, [*images, *labels.values()], written, overwrite=overwrite)
    timed = [TimedPredictor(predictor) for predictor in predictors]
    results: list[Result] = []
    rows: list[Row] = []
    for path in tqdm(images, desc="predict", unit="image", disable=len(images) == 1):
        photo = Photo.open(path)
        true = read_truth(labels[path], decoder, photo.size) if decoder else None
        panels, of_image = _predict_image(
            timed, photo, resolutions, truth=true, place=(folder, path)
        )
        results += of_image
        if pictures:
            row = Row(photo.decode().pixels, panels, true, path.stem)
            _write_pictures(folder, path, row, predictors[0], legend=legend)
            rows += [row.thumbnail()] if len(rows) < FIGURE_ROWS else []
    if pictures and len(images) > 1:
        _write_figure(folder, rows, predictors[0])
    return results


def _write_figure(folder: OutputFolder, rows: Sequence[Row], first: Predictor) -> None:
    """Draw the first images below each other, with the classes of the first network."""
    figure = comparison_figure(rows, first.classes, first.colours)
    save_figure(figure, folder.figure, DOTS_PER_INCH)


def common_resolutions(predictors: Sequence[Predictor]) -> list[int]:
    """Return the resolutions at which networks are shown beside each other, largest first.

    Those that any of them was trained at, as in the paper's Fig. 8: a network of one resolution
    is shown at all those of the switchable one. Left out is what the first network was not
    trained at and one of them cannot compute, as a file that was exported for one resolution.
    """
    trained = sorted({r for one in predictors for r in one.resolutions}, reverse=True)
    return [
        resolution
        for resolution in trained
        if resolution in predictors[0].resolutions
        or all(resolution in one.resolutions or _takes(one, resolution) for one in predictors)
    ]


def _takes(predictor: Predictor, resolution: int) -> bool:
    try:
        predictor.predict(drawn_image(), resolution)
    except ValueError:
        return False
    return True


def _predict_image(
    networks: Sequence[TimedPredictor],
    photo: Photo,
    resolutions: Sequence[int],
    *,
    truth: LabelMap | None,
    place: tuple[OutputFolder, Path],
) -> tuple[list[Panel], list[Result]]:
    """Predict one image with every network at every resolution, and write the label maps."""
    folder, path = place
    panels, results = [], []
    for network in networks:
        # Colours are made once for all images, and count for none.
        name, colours = network.predictor.name, network.predictor.colours
        for resolution in resolutions:
            prediction = network.predict(photo, resolution)
            labels = prediction.label_map
            assert labels is not None  # Only segmenters come here.
            start = time.perf_counter()
            _write(label_png(labels, colours), folder.labels(path, name, resolution))
            encode = 1000 * (time.perf_counter() - start)
            stages = replace(prediction.stages, encode=encode)
            accuracy = None if truth is None else pixel_accuracy(labels, truth)
            results.append(Result(path.name, name, resolution, stages, accuracy))
            panels.append(Panel(name, resolution, labels, stages.total, accuracy))
    return panels, results


def table(results: Sequence[Result]) -> str:
    """Return results as a table, with the pixel accuracy where there is ground truth."""
    head = ["image", "network", "resolution", *time_titles(dense=True)]
    lines = [
        [r.image, r.network, f"{r.resolution}", *time_cells(r.stages, dense=True)] for r in results
    ]
    if any(result.accuracy is not None for result in results):
        head.append("pixel accuracy")
        for line, r in zip(lines, results, strict=True):
            line.append(percent(r.accuracy, unit=" %"))
    return text_table([head, *lines], "<<>")


def _folder(network: str, resolution: int) -> str:
    return f"{_file_name(network)}_{resolution}"


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", name)


def _write_pictures(
    folder: OutputFolder, path: Path, row: Row, predictor: Predictor, *, legend: bool
) -> None:
    classes, colours = predictor.classes, predictor.colours
    for panel in row.panels:
        place = path, panel.network, panel.resolution
        mixed = overlay(row.image, panel.labels, colours)
        if legend:
            mixed = with_legend(mixed, legend_entries([panel.labels], classes, colours))
        _write(png_bytes(Pictures.fromarray(mixed)), folder.overlay(*place))
    picture = folder.picture(path)
    picture.parent.mkdir(parents=True, exist_ok=True)
    save_figure(comparison_figure([row], classes, colours), picture, DOTS_PER_INCH)


def _write(content: bytes, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary:
        temporary.write_bytes(content)


def check_networks(predictors: Sequence[Predictor]) -> None:
    """Check that networks can be shown beside each other.

    Raises:
        ValueError: If one is not a segmenter, knows other classes or has the name of another.
    """
    for predictor in predictors:
        if not predictor.head.dense:
            raise ValueError(
                f"'{predictor.name}' is a network for {predictor.task}; label maps need a segmenter"
            )
    first = predictors[0]
    for other in predictors[1:]:
        if other.classes != first.classes:
            raise ValueError(
                f"'{first.name}' and '{other.name}' know other classes "
                f"({len(first.classes)} and {len(other.classes)}); compare networks of one data set"
            )
    twice = repeated(_file_name(predictor.name) for predictor in predictors)
    if twice is not None:
        raise ValueError(
            f"two networks are named '{twice}'; name them apart with --name and --compare-name"
        )


def _check_names(images: Sequence[Path]) -> None:
    twice = repeated(image.stem for image in images)
    if twice is not None:
        both = [str(image) for image in images if image.stem == twice]
        raise ValueError(
            f"{' and '.join(both)} would be written to the same files, which are named after the "
            "image; predict them into different folders"
        )


def _check_output(
    folder: OutputFolder,
    read: Sequence[Path],
    written: Sequence[Path],
    *,
    overwrite: bool,
) -> None:
    if folder.root.exists() and not folder.root.is_dir():
        raise ValueError(f"{folder.root} is a file, expected a folder for the results")
    inputs = {path.resolve() for path in read}
    lost = [path for path in written if path.resolve() in inputs]
    if lost:
        raise ValueError(f"{lost[0]} is read and would be written over; give another folder")
    existing = [path for path in written if path.exists()]
    if existing and not overwrite:
        raise ValueError(
            f"{len(existing)} of the {len(written)} files to be written exist, the first is "
            f"{existing[0]}; give another folder, or --overwrite to replace them"
        )
