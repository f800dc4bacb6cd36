"""The settings of a segmentation run: what the shared ones leave open."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from rsseg.common.config import STRICT, Count, Positive
from rsseg.segmentation.model import ModelConfig
from rsseg.training.config import RunConfig

SMALLEST_VIEW = 32  # The encoders halve their input five times.
Share = Annotated[float, Field(ge=0, le=1)]


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
    """Where the images are and how their label maps are written.

    Args:
        root: The official .mat file, or a folder with images and label maps.
        crop: Crop of each image by name ("gupta", "toolbox", "border"); default is none.
        void_value: Value of pixels without a label in the label maps; default: detected.
        label_offset: Value of the first class in the label maps; default: detected.
        limit: Use only so many training images, spread over the list; default: all.
        max_unreadable: How many unreadable images are skipped, and counted, before the run stops.
    """

    root: str
    crop: Literal["gupta", "toolbox", "border"] | None = None
    void_value: Annotated[int, Field(ge=0, le=255)] | None = None
    label_offset: Annotated[int, Field(ge=0, le=1)] | None = None
    limit: Count | None = None
    max_unreadable: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True, config=STRICT, kw_only=True)
class SegmentationConfig(RunConfig):
    """One segmentation run, complete; see `RunConfig` for the settings of every task.

    Args:
        data: The images.
        model: The network.
        augmentation: Random changes of the training images.
    """

    data: DataConfig
    model: ModelConfig = field(default_factory=ModelConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
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
