"""What `rsseg doctor` checks of the start of a run: its weights, classes, mean and std, and rates.

Weights of a file are loaded into the network, as the run would; nothing is downloaded.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from rsseg.classifiers.build import (
    IMAGENET,
    KEY,
    ClassifierConfig,
    build_classifier,
    weights_record,
)
from rsseg.classifiers.config import ImageDataConfig
from rsseg.classifiers.head import ClassificationHead
from rsseg.common.config import plain
from rsseg.common.messages import counted, first_line
from rsseg.doctor.checks import Finding
from rsseg.segmentation.encoders import KEY as ENCODER_KEY
from rsseg.segmentation.encoders import encoder_record, load_encoder_weights, weight_names
from rsseg.segmentation.head import SegmentationHead
from rsseg.segmentation.model import ModelConfig
from rsseg.switchable.net import SwitchableNet
from rsseg.training.config import RunConfig
from rsseg.training.freezing import Freezing
from rsseg.training.task import load_init
from rsseg.weights.loading import Loaded
from rsseg.weights.record import text_of
from rsseg.weights.source import open_weights, unpacked

# From here on a rate is one for training from scratch: 0.1 for 256 images is that of ResNet's
# authors (https://arxiv.org/abs/1512.03385), 0.003 that of ViT's (https://arxiv.org/abs/2010.11929).
FROM_SCRATCH = {"sgd": 0.1, "adamw": 0.003}


def weights_source(config: RunConfig, model: ClassifierConfig | ModelConfig) -> tuple[str, str]:
    """Return the setting that names the weights of a run, and what it names; "" for none."""
    if config.init is not None:
        return "init", config.init
    if isinstance(model, ModelConfig):
        return ENCODER_KEY, model.encoder_weights or ""
    return KEY, model.weights or ""


def examine_weights(
    config: RunConfig,
    model: ClassifierConfig | ModelConfig,
    net: SwitchableNet,
    *,
    classes: Sequence[str] = (),
) -> Iterator[Finding]:
    """Check the weights of a run, and the parts that it freezes.

    Args:
        config: Settings of the run.
        model: Its network.
        net: The network, with random weights; it is changed.
        classes: Names of the classes of the data, if known.
    """
    key, source = weights_source(config, model)
    names = weight_names(model.encoder_name) if isinstance(model, ModelConfig) else [IMAGENET]
    if source and key != "init" and source in names:
        yield Finding("weights", "ok", f"{key} {source} is downloaded when the run begins")
    elif source:
        yield _weights(model, net, key, source, classes)
    if config.freeze:
        yield _freeze(config, net)


def _weights(
    model: ClassifierConfig | ModelConfig,
    net: SwitchableNet,
    key: str,
    source: str,
    classes: Sequence[str],
) -> Finding:
    try:
        line = str(_loaded(model, net, key, source, classes))
    except ValueError as error:
        remedy = f"--set {key}=PATH with weights of this network, or {key}=null for none"
        return Finding("weights", "fault", first_line(error), remedy)
    return Finding("weights", "ok", line)


def _loaded(
    model: ClassifierConfig | ModelConfig,
    net: SwitchableNet,
    key: str,
    source: str,
    classes: Sequence[str],
) -> Loaded | str:
    """Load weights as the run would; return what it would say."""
    if key == "init":
        head = SegmentationHead() if isinstance(model, ModelConfig) else ClassificationHead()
        weights = unpacked(open_weights(source), head.network)
        return load_init(net, weights, head=head, model=plain(model), classes=classes)
    lines = io.StringIO()
    with contextlib.redirect_stderr(lines):
        if isinstance(model, ModelConfig):
            inner = net.specialize(net.resolutions[0])
            load_encoder_weights(inner.get_submodule("encoder"), model.encoder_name, source)
        else:
            build_classifier(model)
    return lines.getvalue().strip()


def _freeze(config: RunConfig, net: SwitchableNet) -> Finding:
    names = ", ".join(part.part for part in config.freeze)
    try:
        Freezing(net, config.freeze)
    except ValueError as error:
        return Finding("freeze", "fault", first_line(error), "correct the names in freeze")
    return Finding("freeze", "ok", f"{names} can be frozen")


def examine_normalisation(
    config: RunConfig, model: ClassifierConfig | ModelConfig, *, given: bool
) -> Iterator[Finding]:
    """Check mean and std against those that the weights were trained with.

    Args:
        config: Settings of the run.
        model: Its network.
        given: Whether the file or an override sets mean or std.
    """
    try:
        if isinstance(model, ModelConfig):
            name, weights = model.encoder_name, model.encoder_weights
            record = encoder_record(name, weights, config.init, offline=True)
        else:
            record = weights_record(model, config.init)
    except ValueError:  # The check of the weights says so.
        return
    if record is None:
        return
    images = config.preprocessing
    if not record.differs(images.mean, images.std):
        yield Finding("mean and std", "ok", f"those of the weights: {record}")
    elif record.certain and not given:
        yield Finding("mean and std", "ok", f"the run takes those of the weights: {record}")
    else:
        own = text_of(images.mean, images.std)
        remedy = "set preprocessing.mean and preprocessing.std to those of the weights"
        yield Finding("mean and std", "hint", f"the run has {own}, the weights {record}", remedy)


def examine_rates(config: RunConfig, model: ClassifierConfig | ModelConfig) -> Iterator[Finding]:
    """Check that a trained body is not trained as if it began from nothing."""
    optim, source = config.optim, weights_source(config, model)[1]
    rate = optim.lr if optim.rate_of_body is None else optim.rate_of_body
    largest = max(rate) if isinstance(rate, tuple) else rate
    frozen = any(part.part in ("body", "encoder") and part.epochs is None for part in config.freeze)
    if source and not frozen and config.epochs and largest >= FROM_SCRATCH[optim.kind]:
        found = f"the body has weights, and the learning rate {largest:g} of training from scratch"
        remedy = f"lower it, such as --set optim.body_lr={largest / 10:g}"
        yield Finding("learning rate", "hint", found, remedy)


def class_folders(data: ImageDataConfig) -> tuple[str, ...]:
    """Return the names of the folders of the training images' classes, sorted; () for none."""
    try:
        folder = Path(data.root).expanduser() / data.train
        return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir()))
    except OSError:  # The check of the data says so.
        return ()


def examine_classes(model: ClassifierConfig, data: ImageDataConfig) -> Iterator[Finding]:
    """Check the number of classes against the folders of the training images."""
    folder = Path(data.root).expanduser() / data.train
    count = len(class_folders(data))
    if count and count != model.classes:
        folders = counted(count, "folder")
        found = f"{folder} holds {folders} of classes, model.classes is {model.classes}"
        yield Finding("classes", "fault", found, f"--set model.classes={count}")
