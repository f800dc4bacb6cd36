"""Globally pooled features of classifiers under training and test preprocessing: Fig. 3.

The random crop of training shows objects larger than the test does, so that the features which the
linear layer reads are distributed differently. Read are the same images in both ways.

Source: Wang et al., "Resolution Switchable Networks for Runtime Efficient Image Recognition",
ECCV 2020, https://arxiv.org/abs/2007.09558, Fig. 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from rsseg.classifiers.config import CropConfig
from rsseg.classifiers.random_crops import RandomCrops
from rsseg.common.config import validate
from rsseg.common.files import RunError, files_below
from rsseg.common.messages import percent, text_table
from rsseg.heads import head_of
from rsseg.images.crops import stack_images
from rsseg.images.preprocessing import Preprocessing
from rsseg.images.reading import IMAGE_SUFFIXES, read_image
from rsseg.load import load_checkpoint
from rsseg.switchable.net import SwitchableNet

TRAIN, TEST = "train", "test"
SHARES: Final = tuple(n / 200 for n in range(201))  # where the distribution is kept and drawn
_BATCH: Final = 32
_LINES: Final = {TRAIN: "-", TEST: "--"}
_TAIL: Final = 0.99  # The largest values would squeeze the curves to the left.


@dataclass(frozen=True)
class Distribution:
    """The values of all pooled features of all images, in one preprocessing.

    Args:
        network: Name of the network.
        resolution: Side of the views in pixels.
        preprocessing: "train" (random crop) or "test".
        images: Number of images N.
        channels: Number of features C of an image.
        mean: Mean of the N C values.
        distance: Largest difference to the distribution function of the training, 0..1
            (Kolmogorov-Smirnov); NaN where there is none.
        quantiles: The values below which the shares SHARES of them lie, rising.
    """

    network: str
    resolution: int
    preprocessing: str
    images: int
    channels: int
    mean: float
    distance: float
    quantiles: NDArray[np.float64]

    def rows(self) -> list[dict[str, Any]]:
        """Return the curve as `write_csv` takes it: a row for each share."""
        columns = ("network", "resolution", "preprocessing", "images", "channels")
        head = {column: getattr(self, column) for column in columns}
        return [
            {**head, "share": share, "value": f"{value:.6g}"}
            for share, value in zip(SHARES, self.quantiles, strict=True)
        ]


@dataclass(frozen=True)
class Classifier:
    """A trained classifier and how it reads images.

    Args:
        name: Its name in the picture.
        net: The network, in evaluation mode.
        preprocessing: Of the test.
        crop: Of the training.
    """

    name: str
    net: SwitchableNet
    preprocessing: Preprocessing
    crop: CropConfig


def open_classifier(path: Path, name: str | None = None) -> Classifier:
    """Open a checkpoint, or last.pt of a run's folder.

    Args:
        path: The file or the folder.
        name: Its name in the picture; default is that of the folder.

    Raises:
        RunError: If it is not a classifier.
        CheckpointError: If it cannot be read.
    """
    path = path / "last.pt" if (path / "last.pt").is_file() else path
    net, preprocessing, metadata = load_checkpoint(path)
    if head_of(metadata.task).dense:
        raise RunError(
            f"{path} is a {head_of(metadata.task).noun}; globally pooled features are those of a "
            "classifier"
        )
    # A file that says nothing of its training, as an imported one, has the paper's crop.
    crop = validate(CropConfig, metadata.config.get("augmentation") or {}, str(path))
    return Classifier(name or path.resolve().parent.name, net, preprocessing, crop)


def find_samples(folder: Path, most: int) -> list[Path]:
    """Return at most `most` images below a folder, evenly spaced over all of them by name.

    Raises:
        RunError: If there is none.
    """
    files = (path for path in files_below(folder) if path.suffix.lower() in IMAGE_SUFFIXES)
    images = sorted(files)
    if not images:
        raise RunError(f"there is no image in {folder} or its sub-folders; give those of a test")
    count = min(most, len(images))
    # Class by class in folders: the first ones alone would be images of few classes.
    return [images[index * len(images) // count] for index in range(count)]


def distributions(
    classifier: Classifier,
    images: Sequence[Path],
    resolutions: Sequence[int] | None = None,
    *,
    device: torch.device,
) -> list[Distribution]:
    """Compute the distribution of the pooled features at each resolution, in both ways.

    Args:
        classifier: The network.
        images: Image files.
        resolutions: Sides in pixels; default: those that it was trained at. At others it is only
            tested, with the sets of its rule for unseen resolutions.
        device: Where it is computed.

    Returns:
        By resolution, that of training before that of the test.

    Raises:
        ValueError: If an image cannot be read, or the network computes no feature maps.
    """
    net = classifier.net.to(device)
    trained = dict.fromkeys(net.resolutions)
    layer = _last_map(net, max(trained), device)
    return [
        distribution
        for resolution in dict.fromkeys(resolutions or trained)
        for distribution in _both_ways(
            classifier,
            layer,
            images,
            resolution,
            (TRAIN, TEST) if resolution in trained else (TEST,),
        )
    ]


def _both_ways(
    classifier: Classifier,
    layer: nn.Module,
    images: Sequence[Path],
    resolution: int,
    ways: Sequence[str],
) -> list[Distribution]:
    features = {
        way: pooled_features(classifier, layer, images, resolution, way).astype(np.float64)
        for way in ways
    }
    return [
        Distribution(
            network=classifier.name,
            resolution=resolution,
            preprocessing=way,
            images=values.shape[0],
            channels=values.shape[1],
            mean=float(values.mean()),
            distance=largest_distance(features[TRAIN], values) if TRAIN in features else math.nan,
            quantiles=np.quantile(values, SHARES),
        )
        for way, values in features.items()
    ]


def largest_distance(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    r"""Compute the largest difference of the distribution functions of two samples, 0..1.

    .. math:: \max_x |F_1(x) - F_2(x)|

    the statistic of Kolmogorov and Smirnov; shapes do not matter.

    Example:
        >>> largest_distance(np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0]))
        0.3333333333333333
    """
    first, second = np.sort(first, axis=None), np.sort(second, axis=None)
    points = np.concatenate([first, second])
    shares = [np.searchsorted(one, points, side="right") / one.size for one in (first, second)]
    return float(np.abs(shares[0] - shares[1]).max())


def _last_map(net: SwitchableNet, resolution: int, device: torch.device) -> nn.Module:
    """Return the module whose output is the last with a height and a width: it is pooled next."""
    last: list[nn.Module] = []

    def note(module: nn.Module, _: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and output[0, 0].numel() > 1:
            last[:] = [module]

    hooks = [layer.register_forward_hook(note) for layer in net.network.modules()]
    try:
        with torch.inference_mode():
            net.predict(torch.zeros(1, 3, resolution, resolution, device=device), resolution)
    finally:
        for hook in hooks:
            hook.remove()
    if not last:
        raise ValueError(f"{type(net.network).__name__} computes no feature maps (B, C, h, w)")
    return last[0]


def pooled_features(
    classifier: Classifier, layer: nn.Module, images: Sequence[Path], resolution: int, way: str
) -> NDArray[np.float32]:
    """Average the output of a layer over height and width, shape (N, C)."""
    net, pooled = classifier.net, []
    device = next(net.parameters()).device
    with torch.inference_mode(), net.holding([resolution]), _pooling(layer) as outputs:
        for views in _batches(classifier, images, resolution, way):
            net.predict(classifier.preprocessing.normalise(views.to(device)), resolution)
            pooled.append(outputs[-1].float().cpu().numpy())
    return np.concatenate(pooled)


@contextmanager
def _pooling(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Keep what a layer last returned, averaged over height and width."""
    outputs: list[Tensor] = []

    def keep(_: nn.Module, __: object, output: Tensor) -> None:
        outputs[:] = [output.mean(dim=(2, 3))]  # At its call: what follows may work in place.

    hook = layer.register_forward_hook(keep)
    try:
        yield outputs
    finally:
        hook.remove()


def _batches(
    classifier: Classifier, images: Sequence[Path], resolution: int, way: str
) -> Iterator[Tensor]:
    crops = RandomCrops([resolution], classifier.crop)
    name = f"{classifier.name} {resolution} {way}"
    with tqdm(total=len(images), desc=name, unit="img", leave=False) as bar:
        for start in range(0, len(images), _BATCH):
            views = []
            for index in range(start, min(start + _BATCH, len(images))):
                image = read_image(images[index])
                if way == TEST:
                    views.append(classifier.preprocessing.view(image, resolution))
                else:  # Every network sees the same crops.
                    tensor = torch.from_numpy(image).permute(2, 0, 1)
                    views += crops.views(tensor, seed=index)
            yield stack_images(views)
            bar.update(len(views))


def features_table(rows: Sequence[Distribution]) -> str:
    """Lay out the means, and how far training and test are apart."""
    lines = [["network", "resolution", "mean, train", "mean, test", "largest distance"]]
    for name, resolution in dict.fromkeys((row.network, row.resolution) for row in rows):
        own = {r.preprocessing: r for r in rows if (r.network, r.resolution) == (name, resolution)}
        means = [f"{own[way].mean:.4f}" if way in own else "-" for way in _LINES]
        distance = percent(own[TEST].distance, unit=" %")
        lines.append([name, str(resolution), *means, distance])
    return text_table(lines)


def plot_features(rows: Sequence[Distribution]) -> Figure:
    """Draw the distribution functions: a field for each network, a colour for each resolution."""
    names = list(dict.fromkeys(row.network for row in rows))
    resolutions = sorted({row.resolution for row in rows}, reverse=True)
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    size = (max(5.0, 4.2 * columns), 0.4 + 3.4 * lines)
    figure = Figure(figsize=size, layout="constrained")
    fields = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).flat
    for axes in fields:
        axes.set_visible(False)
    for name, axes in zip(names, figure.axes, strict=False):
        axes.set_visible(True)
        axes.tick_params(labelbottom=True)
        for row in rows:
            if row.network == name:
                _draw(axes, row, f"C{resolutions.index(row.resolution)}")
        axes.set(title=name, xlabel="value of a pooled feature")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="lower right")
    figure.axes[0].set_ylabel("share of values below")
    edge = max(float(np.interp(_TAIL, SHARES, row.quantiles)) for row in rows)
    bottom = min(_smallest_share(row) for row in rows)
    figure.axes[0].set_ylim(math.floor(10 * bottom) / 10, 1.01)
    figure.axes[0].set_xlim(min(0.0, *(float(row.quantiles[0]) for row in rows)), edge)
    return figure


def _smallest_share(row: Distribution) -> float:
    """Return the share of values that equal the smallest: behind a ReLU most are 0."""
    last = np.searchsorted(row.quantiles, row.quantiles[0], side="right") - 1
    return SHARES[int(last)]


def _draw(axes: Axes, row: Distribution, colour: str) -> None:
    label = f"{row.resolution}, {row.preprocessing}"
    style = _LINES[row.preprocessing]
    axes.plot(row.quantiles, SHARES, style, color=colour, label=label, linewidth=1.3)
