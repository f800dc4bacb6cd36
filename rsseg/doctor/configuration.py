"""What `rsseg doctor` checks of a configuration: what its run needs, and whether it is here.

Data are opened, not read: the training scripts, which know the data sets, check what is in them.
Nothing is downloaded.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic.dataclasses import dataclass

from rsseg.classifiers.build import ClassifierConfig, build_classifier
from rsseg.classifiers.config import CropConfig, ImageDataConfig
from rsseg.common.config import STRICT, ConfigError, is_given, load_config
from rsseg.common.device import choose_device
from rsseg.common.files import RunError
from rsseg.common.messages import first_line
from rsseg.common.processor import computes_bf16
from rsseg.doctor import checks, machine
from rsseg.doctor.checks import Finding, attempted
from rsseg.doctor.start import (
    class_folders,
    examine_classes,
    examine_normalisation,
    examine_rates,
    examine_weights,
)
from rsseg.images.preprocessing import PHOTO_SIZE
from rsseg.segmentation.config import DataConfig, SegmentationConfig
from rsseg.segmentation.model import build_segmenter
from rsseg.switchable.net import SwitchableNet
from rsseg.training.beginning import KEYS, precision_for
from rsseg.training.config import RunConfig
from rsseg.training.cost import AHEAD
from rsseg.training.resume import default_folder
from rsseg.training.run_folder import check_unused

CHECKPOINTS = 4  # last.pt and best.pt, each with the one that is to replace it.
SECONDS = 10.0  # How long a network drive that does not answer may keep a check waiting.
T = TypeVar("T")


@dataclass(frozen=True, config=STRICT, kw_only=True)
class ClassifierRun(RunConfig):
    """A run of train_cls.py, as far as the library knows it; the script checks the rest."""

    data: ImageDataConfig
    model: ClassifierConfig = field(default_factory=ClassifierConfig)
    augmentation: CropConfig = field(default_factory=CropConfig)
    mixing: dict[str, Any] = field(default_factory=dict)
    label_smoothing: float = 0.0
    teacher: dict[str, Any] | None = None


Run = ClassifierRun | SegmentationConfig
SCRIPTS: dict[str, type[Run]] = {"train_cls.py": ClassifierRun, "train_seg.py": SegmentationConfig}


def examine_run(path: Path, overrides: Sequence[str]) -> Iterator[Finding]:
    """Check a configuration, and what its run needs of this machine."""
    try:
        script, config = read_run(path, overrides)
    except ConfigError as error:
        faults = "; ".join(str(error).splitlines())
        yield Finding("configuration", "fault", faults, "correct the file, or give --set KEY=VALUE")
        return
    yield Finding("configuration", "ok", f"one of {script}")
    folder, given = default_folder(path), any(is_given(path, overrides, key) for key in KEYS)
    yield from attempted(
        {
            "run folder": lambda: [_run_folder(folder)],
            "data": lambda: [_data(config)],
            "classes": lambda: _classes(config),
            "packages": lambda: _readers(config),
            "weights": lambda: examine_weights(
                config, config.model, _net(config), classes=_class_names(config)
            ),
            "mean and std": lambda: examine_normalisation(config, config.model, given=given),
            "learning rate": lambda: examine_rates(config, config.model),
            "device": lambda: _device(config),
            "workers": lambda: [checks.check_workers(config.workers, machine.usable_cores())],
            **machine.space(shared=shared_bytes(config), files=open_files(config)),
            "disk": lambda: [_checkpoints(config, folder)],
        }
    )


def read_run(path: Path, overrides: Sequence[str]) -> tuple[str, Run]:
    """Read a configuration; return the script that takes it, and the settings.

    Raises:
        ConfigError: If neither does; with the faults that the closer one finds.
    """
    faults = []
    for script, kind in SCRIPTS.items():
        try:
            return script, load_config(kind, path, overrides)
        except ConfigError as error:
            faults.append(str(error))
    raise ConfigError(min(faults, key=lambda fault: fault.count("\n")))


def _run_folder(folder: Path) -> Finding:
    try:
        check_unused(folder)
    except RunError:
        remedy = f"continue it with --resume {folder}, or choose another folder with --run"
        return Finding("run folder", "hint", f"{folder} holds a run already", remedy)
    return Finding("run folder", "ok", f"{folder} is free")


def _data(config: Run) -> Finding:
    data = config.data
    if isinstance(data, ImageDataConfig) and data.reader != "files":
        return Finding("data", "ok", f"{data.root} is opened by its library, not looked at here")
    root, late = Path(data.root).expanduser(), f"no answer in {SECONDS:.0f} s"
    for path in [root / place for place in _places(data)]:
        error = within(SECONDS, partial(reading_error, path), late)
        if error:
            return checks.check_data(str(path), error)
    return checks.check_data(str(root), "")


def _places(data: DataConfig | ImageDataConfig) -> tuple[str, ...]:
    """Return the paths below the root that must be there, of which "" is the root."""
    if isinstance(data, DataConfig):
        return ("",)
    return (data.train, data.val) if data.test_share is None else (data.train,)


def reading_error(path: Path) -> str:
    """Return why a file or folder cannot be read, or is empty; an empty text if it can."""
    try:
        if path.is_dir():
            return "" if any(path.iterdir()) else "the folder is empty"
        with path.open("rb") as file:
            return "" if file.read(1) else "the file is empty"
    except OSError as error:
        return error.strerror or str(error)


def within(seconds: float, function: Callable[[], T], late: T) -> T:
    """Return what a function returns, or `late` if it takes longer; it must not raise."""
    answers: list[T] = []
    thread = threading.Thread(target=lambda: answers.append(function()), daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else late


def _classes(config: Run) -> Iterator[Finding]:
    if not isinstance(config, SegmentationConfig) and config.reads_labels:
        yield from examine_classes(config.model, config.data)


def _class_names(config: Run) -> tuple[str, ...]:
    """Return the names of the classes as far as no data set has to be read for them; () if not."""
    if isinstance(config, SegmentationConfig):
        names = config.data.names
        return names if isinstance(names, tuple) else ()
    listed = config.data.names or (Path(config.data.root).expanduser() / "classes.txt").exists()
    return () if listed or not config.reads_labels else class_folders(config.data)


def _readers(config: Run) -> Iterator[Finding]:
    if isinstance(config, SegmentationConfig):
        for name in ("albumentations", "h5py"):
            if machine.installed(name)[0] is None:
                yield checks.check_version(name, None, machine.requirements()[0].get(name, ""))


def _device(config: Run) -> Iterator[Finding]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            device = choose_device(config.device)
    except ValueError as error:
        yield Finding("device", "fault", str(error), "--set device=auto, or device=cpu")
        return
    yield Finding("device", "ok", f"{config.device} is {device}")
    yield _precision(config, device)


def _precision(config: Run, device: torch.device) -> Finding:
    if config.precision != "auto":
        bf16 = computes_bf16(device)
        return checks.check_precision(config.precision, device.type, bf16=bf16)
    try:
        precision, reason = precision_for(_meta_net(config), device)
    except ValueError as error:  # What is wrong with the model stands in a line of its own.
        return Finding("precision", "ok", f"auto; the network is not known ({first_line(error)})")
    return Finding("precision", "ok", f"auto takes {precision}: {reason}")


def _checkpoints(config: Run, folder: Path) -> Finding:
    try:
        return machine.disk(folder, disk_bytes(config))
    except ValueError as error:  # The names were known, but what they ask for cannot be built.
        return Finding("model", "fault", first_line(error), "correct the model in the file")


def shared_bytes(config: Run) -> int:
    """Return the bytes of the batches that workers hold ready, views or crops and label maps."""
    image = sum(3 * side**2 for side in config.resolutions)
    if isinstance(config, SegmentationConfig):
        image += config.resolutions[0] ** 2
    elif config.data.resize_on == "device":
        crops = len(config.resolutions) if config.augmentation.crops == "per_resolution" else 1
        image = crops * 3 * PHOTO_SIZE[0] * PHOTO_SIZE[1]
    return config.workers * AHEAD * config.batch_size * image


def open_files(config: Run) -> int:
    """Return about how many files a run has open: every tensor of a batch that waits is one."""
    loaders = 2  # The training's and the evaluation's.
    return machine.FILES + loaders * config.workers * AHEAD * (len(config.resolutions) + 1)


def disk_bytes(config: Run) -> int:
    """Return the bytes of a run's checkpoints: weights, their average if any, and momentum."""
    net = _meta_net(config)
    weights: int = sum(tensor.nbytes for tensor in net.state_dict().values())
    momentum: int = sum(parameter.nbytes for parameter in net.parameters())
    return CHECKPOINTS * (weights * (1 if config.ema_decay is None else 2) + momentum)


def _meta_net(config: Run) -> SwitchableNet:
    """Build the network of a run without memory for its weights, where it can be."""
    try:
        with torch.device("meta"):
            return _net(config)
    except RuntimeError:  # Some networks read their weights while they are built.
        return _net(config)


def _net(config: Run) -> SwitchableNet:
    if isinstance(config, SegmentationConfig):
        network = build_segmenter(replace(config.model, encoder_weights=None))
    else:
        network = build_classifier(replace(config.model, weights=None))
    scores = config.distillation != "none"
    return SwitchableNet(
        network,
        config.resolutions,
        scores=scores,
        batchnorm=config.batchnorm,
        norms=config.norms,
        positions=config.positions,
    )
