"""The settings of a run that both tasks share."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any, Final, Literal

from pydantic import Field, field_validator
from pydantic.dataclasses import dataclass

from rsseg.common.config import STRICT, Count, NotNegative, Positive
from rsseg.common.messages import counted
from rsseg.images.preprocessing import Preprocessing
from rsseg.losses.distillation import VARIANTS
from rsseg.switchable.norms import BATCH, Norm, checked_norms
from rsseg.switchable.positions import Positions, check_sharing
from rsseg.switchable.resolutions import Resolutions

Kept = Annotated[float, Field(ge=0, lt=1)]
Precision = Literal["auto", "fp32", "bf16", "fp16"]


_MOMENTUM: Final = 0.9
_BETAS: Final = (0.9, 0.999)
_EPS: Final = 1e-8


@dataclass(frozen=True, config=STRICT, kw_only=True)
class OptimConfig:
    """The optimiser: stochastic gradient descent, or AdamW.

    Args:
        kind: "sgd" or "adamw".
        lr: Learning rate, or one for each stage of a staged schedule.
        body_lr: The same for the body: a segmenter's encoder, or all of a classifier but its head;
            default is `lr`.
        encoder_lr: An older name of `body_lr`.
        momentum: Momentum of "sgd", 0..1.
        nesterov: Use Nesterov's momentum, for "sgd".
        betas: Shares that the averages of gradient and squared gradient keep, for "adamw".
        eps: Number added to the root of the latter, for "adamw".
        weight_decay: Weight decay of all parameters but those named next.
        no_decay: Leave norms, biases and all else of one dimension out of the weight decay.
        decay_scores: Decay the raw ensemble scores as well.
        decay_batchnorm: Decay gamma and beta as well (the paper does).
        layer_decay: Factor on the learning rate from each layer of the body to the one before it,
            towards the input; default: none.
        clip_norm: Largest norm of the gradient; default: unlimited.
    """

    kind: Literal["sgd", "adamw"] = "sgd"
    lr: Positive | tuple[Positive, ...]
    body_lr: Positive | tuple[Positive, ...] | None = None
    encoder_lr: Positive | tuple[Positive, ...] | None = None
    momentum: Annotated[float, Field(ge=0, lt=1)] = _MOMENTUM
    nesterov: bool = False
    betas: tuple[Kept, Kept] = _BETAS
    eps: Positive = _EPS
    weight_decay: NotNegative = 1e-4
    no_decay: bool = False
    decay_scores: bool = False
    decay_batchnorm: bool = True
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    clip_norm: Positive | None = None

    def __post_init__(self) -> None:
        if self.body_lr is not None and self.encoder_lr is not None:
            raise ValueError("encoder_lr is an older name of body_lr; set body_lr alone")
        if self.kind == "adamw" and (self.nesterov or self.momentum != _MOMENTUM):
            raise ValueError(
                f"momentum {self.momentum:g} and nesterov {str(self.nesterov).lower()} are for "
                "kind 'sgd'; adamw has betas in their place; leave them out"
            )
        if self.kind == "sgd" and (self.betas, self.eps) != (_BETAS, _EPS):
            raise ValueError("betas and eps are for kind 'adamw'; leave them out, or set that kind")

    @property
    def rate_of_body(self) -> float | tuple[float, ...] | None:
        """The learning rate of the body, None for that of the rest."""
        return self.encoder_lr if self.body_lr is None else self.body_lr


@dataclass(frozen=True, config=STRICT, kw_only=True)
class FreezeConfig:
    """A part of the network that is not trained.

    Args:
        part: "body" (a segmenter's encoder, or all of a classifier but its head), "head", or the
            name of a layer or a group of layers, such as "encoder.layer1"; "*" stands for any
            letters. BatchNorms in it keep gamma, beta and statistics.
        epochs: It is trained from this epoch on; default: never.
    """

    part: str
    epochs: Count | None = None


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ScheduleConfig:
    """How the learning rate falls over the run.

    Args:
        kind: "cosine" and "poly" fall to 0 with every step, "staged" takes the next learning
            rate of the list at each milestone, "constant" keeps it.
        milestones: Epochs at which the next stage begins, for "staged" only.
        power: Exponent of "poly".
        warmup_epochs: The learning rate rises linearly over so many epochs first.
    """

    kind: Literal["cosine", "poly", "staged", "constant"] = "cosine"
    milestones: tuple[Count, ...] = ()
    power: Positive = 0.9
    warmup_epochs: NotNegative = 0.0

    @field_validator("milestones")
    @classmethod
    def _rising(cls, milestones: tuple[int, ...]) -> tuple[int, ...]:
        if list(milestones) != sorted(set(milestones)):
            raise ValueError(f"milestones must rise, got {list(milestones)}")
        return milestones


@dataclass(frozen=True, config=STRICT, kw_only=True)
class FixedStatisticsConfig:
    """When BatchNorms normalise with the statistics that they have, as in evaluation.

    Gamma and beta are trained all the same.

    Args:
        first: So many epochs at the beginning, while a new head settles, for example.
        last: So many epochs at the end: what is trained last is then what is used.
    """

    first: Annotated[int, Field(ge=0)] = 0
    last: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True, config=STRICT, kw_only=True)
class AdaptConfig:
    """How the trained network that `init` names becomes switchable.

    The start is evaluated before the first step: as every BatchNorm set is a copy of the
    original's, that is the original tested at each resolution.

    Args:
        teacher: Factor on the distillation from the original, as it was at the start, which
            teaches every resolution from the largest views, beside the ensemble; 0 for none.
        labels: Whether the labels of the training images are read. If not, they need none: the
            original's answer to the largest views takes their place, and all else stays. A
            classifier's target is its softmax, so that sum_s CE(z_s, p) + CE(z_0, p) takes the
            place of classification and ensemble loss; the term of `teacher` is the first of these
            once more, less a constant. A segmenter's target is its best class of each pixel.
        recalibrate: Measure the BatchNorm statistics of each resolution below the largest on so
            many training images before the first step, and keep them where the answers come closer
            to the original's at the largest; 0 for copies of its statistics. `freeze_batchnorm`
            then keeps what this has left.
    """

    teacher: NotNegative = 1.0
    labels: bool = True
    recalibrate: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True, config=STRICT, kw_only=True)
class RunConfig:
    """The settings of every run, whatever its task.

    Args:
        resolutions: Sides of the views in pixels, from large to small.
        epochs: Passes over the training images; 0 evaluates the weights that a run starts from.
        batch_size: Images in a training step, of all processes together: the learning rate that
            suits it is the same for any number of processes.
        init: Weights to start from: a checkpoint of rsseg, or a file or folder of a network of
            torchvision, timm or segmentation-models-pytorch; they take the place of those that
            `model` names. Default: none.
        adapt: How the network of `init` becomes switchable; default: trained as any other start.
        freeze: Parts of the network that are not trained, or not in the first epochs.
        optim: The optimiser.
        schedule: The learning rate's course.
        preprocessing: From an image to a view; part of every checkpoint.
        distillation: "full", "vanilla", "dense", "from_largest", or "none" for parallel
            training without ensemble.
        distillation_scale: Factor on the distillation loss.
        sandwich: Train the largest, the smallest and one other resolution drawn at random in each
            step, instead of all.
        random_resolution: Train one resolution drawn at random in each step, instead of all; with
            `distillation` "none", as one alone has no ensemble, and `batchnorm` "shared" it is the
            usual training with images of random size.
        order: "all" resolutions train from the first step on, or from "large_to_small": the
            largest from the first step, the others join it one after the other, at equal
            distances, and all train in the second half of the run.
        ema_decay: Keep an average of all weights and BatchNorm statistics, which moves by
            1 - ema_decay of the way at each step; it is what is evaluated and used. Default: none.
        batchnorm: "private" sets for each resolution, or one "shared" by all (Fig. 4).
        norms: The kinds of norms that have private sets: "batch", and "layer" or "group" for
            networks with LayerNorm, RMSNorm or GroupNorm (docs/NORMALISATION.md).
        positions: "private" tables of absolute positions for each resolution (of a ViT, say), or
            one "shared" by all and resized.
        freeze_batchnorm: Keep statistics, gamma and beta of every BatchNorm as loaded.
        fixed_statistics: Epochs in which every BatchNorm keeps its statistics and normalises with
            them; default: none, a batch is normalised with its own.
        sync_batchnorm: Normalise over the images of all processes, not of each one's share.
        precision: Number format of the forward pass: "fp32", or "bf16" or "fp16" (autocast; fp16
            with a scaled loss). "auto" takes bf16 where it is faster, see `with_precision`; a run
            that has begun holds what was taken.
        memory: "normal", or less memory for some speed with the same gradients: "checkpoint"
            keeps the graph of the largest resolution alone, "two_pass" that of one at a time.
        compile: Compile the network (torch.compile). Each resolution is compiled by itself in the
            first steps, which takes minutes; "cuda_graphs" records CUDA graphs as well.
        gradient_compression: What the processes of a run send each other: gradients as they are
            ("none"), or rounded to "bf16", half as many bytes for a slow network.
        channels_last: Memory layout of images and convolution weights.
        evaluate_every: Evaluate after every so many epochs; the last epoch is always evaluated.
        checkpoint_minutes: Save the run after so many minutes, besides after each epoch.
        max_skipped_steps: Leave out so many steps whose loss or gradient is not finite, before
            the run stops.
        seed: Seed of all random numbers.
        deterministic: Use deterministic algorithms only; an operation without one is an error.
        workers: Processes that load images for each process that trains; 0 loads in the
            training process.
        device: "auto" takes a CUDA device where there is one.
        timeout_minutes: How long a process waits for the others of its run before it gives up.
    """

    resolutions: Annotated[Resolutions, Field(max_length=64)]
    epochs: Annotated[int, Field(ge=0, lt=2**31)]
    batch_size: Count
    optim: OptimConfig
    init: str | None = None
    adapt: AdaptConfig | None = None
    freeze: tuple[FreezeConfig, ...] = ()
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    distillation: str = "full"
    distillation_scale: NotNegative = 1.0
    sandwich: bool = False
    random_resolution: bool = False
    order: Literal["all", "large_to_small"] = "all"
    ema_decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    batchnorm: Literal["private", "shared"] = "private"
    norms: tuple[Norm, ...] = BATCH
    positions: Positions = "shared"
    freeze_batchnorm: bool = False
    fixed_statistics: FixedStatisticsConfig = field(default_factory=FixedStatisticsConfig)
    sync_batchnorm: bool = False
    precision: Precision = "fp32"
    memory: Literal["normal", "checkpoint", "two_pass"] = "normal"
    compile: Literal["none", "default", "cuda_graphs"] = "none"
    gradient_compression: Literal["none", "bf16"] = "none"
    channels_last: bool = True
    evaluate_every: Count = 10
    checkpoint_minutes: Positive = 15.0
    max_skipped_steps: Annotated[int, Field(ge=0)] = 0
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    deterministic: bool = False
    workers: Annotated[int, Field(ge=0, le=1024)] = 4
    device: str = "auto"
    timeout_minutes: Positive = 10.0

    @field_validator("distillation")
    @classmethod
    def _check_variant(cls, name: str) -> str:
        if name not in VARIANTS:
            raise ValueError(f"unknown variant '{name}', expected one of {sorted(VARIANTS)}")
        return name

    @field_validator("freeze", mode="before")
    @classmethod
    def _names_of_parts(cls, parts: Any) -> Any:
        """Take names of parts, or one, for parts that are frozen over the whole run."""
        parts = [parts] if isinstance(parts, str | dict) else parts
        if not isinstance(parts, list | tuple):
            return parts
        return [{"part": part} if isinstance(part, str) else part for part in parts]

    def __post_init__(self) -> None:
        checked_norms(self.norms)
        check_sharing(self.batchnorm, self.positions)
        if self.adapt is not None and self.init is None:
            raise ValueError(
                "adapt makes a trained network switchable, and init names none; set init (--init "
                "PATH) to its weights, or leave adapt out"
            )
        self._check_recalibration()
        if self.compile != "none" and self.memory != "normal":
            raise ValueError(
                f"memory '{self.memory}' repeats forward passes, which a compiled network cannot; "
                "choose memory 'normal' or compile 'none'"
            )
        if self.memory == "checkpoint" and self.batchnorm == "shared":
            raise ValueError(
                "memory 'checkpoint' changes the order of the forward passes, and so what one "
                "shared BatchNorm learns; choose memory 'two_pass', or batchnorm 'private'"
            )
        if self.gradient_compression != "none" and self.memory == "two_pass":
            raise ValueError(
                f"gradient_compression '{self.gradient_compression}' has no effect with memory "
                "'two_pass', which sends gradients as they are; choose memory 'normal' or "
                "'checkpoint', or gradient_compression 'none'"
            )
        self._check_drawing()
        self._check_schedule()

    def fixes_statistics(self, epoch: int) -> bool:
        """Return whether BatchNorms keep their statistics in an epoch, counted from 0."""
        fixed = self.fixed_statistics
        return epoch < fixed.first or epoch >= self.epochs - fixed.last

    @property
    def reads_labels(self) -> bool:
        """Whether the labels of the training images are read."""
        return self.adapt is None or self.adapt.labels

    @property
    def leaves_out_resolutions(self) -> bool:
        """Whether some steps leave out resolutions: of up to three, a sandwich step takes all."""
        several = self.random_resolution or self.order != "all"
        return (several and len(self.resolutions) > 1) or self.draws_sandwich

    @property
    def draws_sandwich(self) -> bool:
        """Whether the resolutions between the largest and the smallest are drawn."""
        return self.sandwich and len(self.resolutions) > 3

    def _check_drawing(self) -> None:
        if self.random_resolution and (self.sandwich or self.order != "all"):
            raise ValueError(
                "random_resolution trains one resolution in each step, sandwich and order several; "
                "choose one of them"
            )
        if self.sandwich and self.order != "all":
            raise ValueError("sandwich and order both choose the resolutions of a step; choose one")
        if self.random_resolution and self.distillation != "none":
            raise ValueError(
                f"distillation '{self.distillation}' needs all resolutions in a step, "
                "random_resolution trains one; set distillation to none, or leave it out"
            )
        taught = self.adapt is not None and (self.adapt.teacher or not self.adapt.labels)
        if self.random_resolution and taught:
            raise ValueError(
                "the original teaches from the largest views, which random_resolution leaves out "
                "in most steps; set adapt.teacher to 0 and adapt.labels to true, or leave "
                "random_resolution out"
            )

    def _check_recalibration(self) -> None:
        if self.adapt is None or not self.adapt.recalibrate:
            return
        if self.batchnorm == "shared":
            raise ValueError(
                "adapt.recalibrate measures the statistics of each resolution, and batchnorm "
                "'shared' has one set for all; choose batchnorm 'private', or adapt.recalibrate 0"
            )
        if "batch" not in self.norms:
            raise ValueError(
                f"adapt.recalibrate measures statistics of BatchNorms, and norms is "
                f"{', '.join(self.norms)}, whose statistics are each image's own; set "
                "adapt.recalibrate to 0"
            )
        if min(self.resolutions) == max(self.resolutions):
            raise ValueError(
                "adapt.recalibrate measures below the largest resolution, and the run has "
                f"{self.resolutions[0]} alone; add resolutions, or set adapt.recalibrate to 0"
            )

    def _check_schedule(self) -> None:
        stages = len(self.schedule.milestones) + 1 if self.schedule.kind == "staged" else 1
        for name in ("lr", "body_lr", "encoder_lr"):
            rate = getattr(self.optim, name)
            if isinstance(rate, tuple) and len(rate) != stages:
                raise ValueError(
                    f"optim.{name} lists {counted(len(rate), 'learning rate')}, but the schedule "
                    f"'{self.schedule.kind}' has {stages} stage(s): a staged schedule has one "
                    "more than milestones"
                )
        if self.schedule.kind == "staged" and not isinstance(self.optim.lr, tuple):
            raise ValueError("a staged schedule needs a list of learning rates in optim.lr")
        self._check_length()
        if self.schedule.kind != "staged" and self.schedule.milestones:
            raise ValueError(f"schedule '{self.schedule.kind}' takes no milestones")

    def _check_length(self) -> None:
        milestones, warmup = self.schedule.milestones, self.schedule.warmup_epochs
        late = []
        if max(milestones, default=0) >= self.epochs:
            late.append(f"milestones ({list(milestones)})")
        if warmup >= self.epochs:
            late.append(f"warmup_epochs ({warmup:g})")
        if self.epochs and late:
            raise ValueError(
                f"the run has {counted(self.epochs, 'epoch')}; {' and '.join(late)} must lie below "
                "that"
            )
