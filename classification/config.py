"""The settings of a classification run: what the shared ones leave open."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from rsseg.classifiers.build import ClassifierConfig
from rsseg.classifiers.config import CropConfig, ImageDataConfig
from rsseg.common.config import STRICT, NotNegative
from rsseg.images.preprocessing import Preprocessing
from rsseg.training.config import RunConfig


@dataclass(frozen=True, config=STRICT, kw_only=True)
class MixingConfig:
    """Mixing the images of a batch, and their labels, in the same way at all resolutions.

    Args:
        mixup: Parameter of the Beta distribution of MixUp (arXiv 1710.09412), 0 for none.
        cutmix: The same for CutMix (arXiv 1905.04899). With both, each batch draws one of them.
    """

    mixup: NotNegative = 0.0
    cutmix: NotNegative = 0.0


@dataclass(frozen=True, config=STRICT, kw_only=True)
class TeacherConfig:
    """A fixed network that teaches every resolution besides the ensemble.

    Args:
        checkpoint: Checkpoint of a classifier of the same classes.
        weight: Factor on the sum of its distillation terms, one for each resolution.
    """

    checkpoint: str
    weight: NotNegative = 1.0


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ClassificationConfig(RunConfig):
    """One classification run, complete; see `RunConfig` for the settings of every task.

    Args:
        data: The images.
        model: The network.
        augmentation: Random crop and flip of the training images.
        mixing: Mixing the images of a batch.
        label_smoothing: Share of every target that goes to all classes alike.
        teacher: A fixed network that teaches besides; default is none.
    """

    data: ImageDataConfig
    model: ClassifierConfig = field(default_factory=ClassifierConfig)
    preprocessing: Preprocessing = field(default_factory=lambda: Preprocessing(fit="crop"))
    augmentation: CropConfig = field(default_factory=CropConfig)
    mixing: MixingConfig = field(default_factory=MixingConfig)
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    teacher: TeacherConfig | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.teacher is not None and self.adapt is not None and self.adapt.teacher:
            raise ValueError(
                "teacher and adapt.teacher would both teach; set adapt.teacher to 0, or leave "
                "teacher out"
            )
        if self.batch_size == 1:
            raise ValueError(
                "batch_size 1 leaves the last BatchNorm of most classifiers one value for each "
                "channel; use at least 2"
            )
