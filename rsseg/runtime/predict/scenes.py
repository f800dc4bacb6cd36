"""Several networks on several photos in one figure, with no file written: Fig. 8 of the paper.

Source of the arrangement: Wang et al., ECCV 2020, https://arxiv.org/abs/2007.09558, Fig. 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from rsseg.images.photo import Photo
from rsseg.images.preprocessing import LabelMap
from rsseg.runtime.predict.images import check_images
from rsseg.runtime.predict.segment import check_networks, common_resolutions
from rsseg.runtime.predict.truth import TruthFiles, pixel_accuracy, read_truth
from rsseg.runtime.predictor import Predictor
from rsseg.segmentation.figure import Panel, Row, comparison_figure


def scenes_figure(
    predictors: Sequence[Predictor], images: Sequence[Path], truth: TruthFiles | None = None
) -> Figure:
    """Draw photos and the label maps of networks at the resolutions that any was trained at.

    Args:
        predictors: Segmenters of the same classes, with different names; a line of panels each.
        images: Image files, from top to bottom.
        truth: Where the ground truth lies; None leaves it and the accuracies out.

    Raises:
        ValueError: If the networks do not fit together, or an image or a label file is damaged.
        OSError: If a file cannot be opened.
    """
    check_networks(predictors)
    check_images(images)
    resolutions = common_resolutions(predictors)
    labels = truth.find(images) if truth else {}
    decoder = truth.decoder([*labels.values()]) if truth else None
    rows = []
    for path in images:
        photo = Photo.open(path)
        true = read_truth(labels[path], decoder, photo.size) if decoder else None
        panels = [_panel(one, photo, side, true) for one in predictors for side in resolutions]
        rows.append(Row(photo.decode().pixels, panels, true, path.stem).thumbnail())
    return comparison_figure(rows, predictors[0].classes, predictors[0].colours)


def _panel(predictor: Predictor, photo: Photo, resolution: int, true: LabelMap | None) -> Panel:
    labels = predictor.predict(photo, resolution).label_map
    assert labels is not None  # Only segmenters come here.
    accuracy = None if true is None else pixel_accuracy(labels, true)
    return Panel(predictor.name, resolution, labels, accuracy=accuracy)
