"""The settings of a segmentation run: what the shared ones leave open."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import ArgsKwargs

from rsseg.common.config import STRICT, Count, Positive, Share, plain
from rsseg.segmentation.labels import Byte, LabelDecoder, LabelReading, complete_reading
from rsseg.segmentation.model import ModelConfig
from rsseg.segmentation.pairs import UNLABELLED, SplitConfig
from rsseg.segmentation.presets import with_preset
from rsseg.training.config import RunConfig

SMALLEST_VIEW = 32  # The encoders halve their input five times.
Orientation = Literal["applied", "ignored"]


@dataclass(frozen=True, config=STRICT, kw_only=True)
class AugmentationConfig:
    """Random changes of a training image, the same for all resolutions and the label map.

    Args:
        scale: Smallest and largest factor of the random scale.
        shorter_side: The scaled image's shorter side is at least this, in pixels.
        crop: Side of the square crop in pixels; a smaller image is padded, with the mean
            colour, its label map with void.
        flip: Share of images that are mirrored left to right.
        photometric: Share of images whose brightness, contrast and colours are changed.
    """

    scale: tuple[Positive, Positive] = (0.5, 2.0)
    shorter_side: Count = 350
    crop: Count = 500
    flip: Share = 0.5
    photometric: Share = 0.0

    def __post_init__(self) -> None:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale must run from small to large, got {list(self.scale)}")


@dataclass(frozen=True, config=STRICT, kw_only=True)
class DataConfig:
    """Where the images and label maps are, and what the label maps mean.

    Args:
        root: Folder that the paths below are relative to; or NYUDv2's official .mat file.
        preset: Name of a data set whose layout, values, names and colours are known (see
            `presets`): what is set beside it wins.
        train: Where the training samples are. Default: root/images, root/labels and
            root/train.txt, as `python -m datasets.nyudv2 prepare` writes them.
        test: The same for the samples that a run is evaluated on.
        test_share: Without `test`: share of the samples of `train` that are kept for it, chosen
            by their names, the same ones at every run.
        labels: What the values of the label maps mean. Default: what the values prove; a run
            whose values prove nothing is refused.
        names: Names of the classes, or a file with one a line. Default: "class 0" and so on.
        colours: Colour of each class in pictures, RGB. Default: a palette.
        orientation: Whether the label maps are of the images as turned by the orientation that a
            camera noted ("applied"), or of the pixels as they lie in the file ("ignored"). Default:
            as their sizes prove it; an image with a note and a size that proves nothing is refused.
        unlabelled: What becomes of images without label map.
        allow_shared: Test on images that are trained on.
        allow_absent: Train although a class has no pixel in the training samples.
        crop: Crop of each image by name ("gupta", "toolbox", "border"); default is none.
        limit: Use only so many training images, spread over the list; default: all.
        max_unreadable: How many unreadable images are skipped, and counted, before the run stops.
    """

    root: str
    preset: str | None = None
    train: SplitConfig | None = None
    test: SplitConfig | None = None
    test_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    labels: LabelReading | None = None
    names: str | tuple[str, ...] | None = None
    colours: tuple[tuple[Byte, Byte, Byte], ...] | None = None
    orientation: Orientation | None = None
    unlabelled: Literal["refuse", "skip"] = "refuse"
    allow_shared: bool = False
    allow_absent: bool = False
    crop: Literal["gupta", "toolbox", "border"] | None = None
    limit: Count | None = None
    max_unreadable: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: Any) -> Any:
        """Add what a preset knows, and read the keys of earlier versions."""
        given = dict(values.kwargs or {}) if isinstance(values, ArgsKwargs) else values
        if not isinstance(given, dict):
            return values
        return with_preset(_with_labels(given))

    def __post_init__(self) -> None:
        if self.test is not None and self.train is None:
            raise ValueError("test is given and train is not; say where the training samples are")
        if (self.test_share is None) == (self.train is not None and self.test is None):
            raise ValueError(
                "state where the test samples are: test, or test_share (such as 0.2) to keep a "
                "share of the samples of train; not both"
            )
        tested, split = ("train", self.train) if self.test is None else ("test", self.test)
        if split is not None and split.lacks_labels:
            raise ValueError(f"{tested}: {UNLABELLED}: test samples need their label maps")


def _with_labels(values: dict[str, Any]) -> dict[str, Any]:
    """Turn label_offset and void_value, the keys of earlier versions, into `labels`."""
    offset, void = values.get("label_offset"), values.get("void_value")
    rest = {k: v for k, v in values.items() if k not in ("label_offset", "void_value")}
    if offset is None and void is None:
        return rest
    if rest.get("labels") is not None:
        raise ValueError("labels says what label_offset and void_value say; leave those two out")
    return {**rest, "labels": plain(complete_reading(offset, void))}


@dataclass(frozen=True, config=STRICT, kw_only=True)
class SegmentationConfig(RunConfig):
    """One segmentation run, complete; see `RunConfig` for the settings of every task.

    Args:
        data: The images and label maps.
        model: The network.
        augmentation: Random changes of the training images.
    """

    data: DataConfig
    model: ModelConfig = field(default_factory=ModelConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.reads_labels and self.data.train is not None and self.data.train.lacks_labels:
            raise ValueError(
                f"data.train: {UNLABELLED}; to adapt a network on images alone, set adapt: "
                "{labels: false}"
            )
        _check_classes(self.data, self.model.classes)
        if min(self.resolutions) < SMALLEST_VIEW:
            raise ValueError(
                f"resolution {min(self.resolutions)} is too small: the encoder halves a view "
                f"five times, so each resolution must be at least {SMALLEST_VIEW}"
            )
        if self.batch_size == 1 and min(self.resolutions) <= SMALLEST_VIEW:
            raise ValueError(
                f"batch_size 1 with resolution {min(self.resolutions)} leaves BatchNorm one value "
                "for each channel; use a larger batch, or larger resolutions"
            )
        if self.model.in_channels != 3:
            raise ValueError(
                f"images have 3 channels, but model.in_channels is {self.model.in_channels}"
            )
        if self.resolutions[0] > 2 * self.augmentation.crop:
            raise ValueError(
                f"resolution {self.resolutions[0]} is more than twice the crop of "
                f"{self.augmentation.crop} pixels; enlarge augmentation.crop"
            )


def _check_classes(data: DataConfig, classes: int) -> None:
    """Check what is stated about the classes against their number."""
    if classes == 1:
        raise ValueError(
            "model.classes is 1, and a network that tells one class from nothing is always right; "
            "count the background as a class: model.classes 2 (data.preset: binary for masks)"
        )
    if data.labels is not None:
        LabelDecoder(data.labels, classes)
    for key, values in (("names", data.names), ("colours", data.colours)):
        if isinstance(values, tuple) and len(values) != classes:
            raise ValueError(
                f"data.{key} lists {len(values)}, expected {classes}; set "
                f"model.classes to {len(values)}, and leave void out of the list"
            )
