"""Every classifier's file is obeyed to the letter: two real steps, compared with its plain text.

What is small here is the images, the batch and the views; network, loss, optimiser and schedule
are those of the file. What is expected is computed from the YAML by hand. What is cut from the
images is in test_views.py. Many files ask for the same arithmetic and differ in the rest: for all
but the first of them the network is built and then lets its last layer alone compute.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from classification.config import ClassificationConfig
from classification.task import CLASSIFICATION
from datasets.classification import TestImages, training_batches
from rsseg.common.config import load_config
from rsseg.common.yaml_files import read_yaml
from rsseg.losses.mred import MREDLosses
from rsseg.switchable.convert import switchable_layers
from rsseg.training.job import Job
from rsseg.training.loop import Training
from rsseg.training.run_folder import RunFolder
from rsseg.training.step import Outputs
from rsseg.training.task import build_job, build_net
from tests.configs.test_by_hand import (
    COUNTS,
    VARIANTS,
    loss_by_hand,
    mobilenet_parameters,
    rate_by_hand,
)
from tests.configs.test_views import CLASSIFIERS, small_side, small_values, write_all_images
from tests.helpers.processes import ROOT


@dataclass(frozen=True)
class Run:
    """Two steps of the run of a file: its first, and the second one of the epoch in its middle.

    Attributes:
        written: The file as it is written.
        job: What the run was given.
        training: The run after two steps.
        rates: For each step, the learning rate of each parameter group.
        views: For each step, the views before they were normalised.
        seen: For each step, what the loss was given.
        losses: For each step, what it gave.
        first: The first file with the same arithmetic, perhaps this one.
    """

    written: dict[str, Any]
    job: Job
    training: Training
    rates: list[list[float]]
    views: list[list[Tensor]]
    seen: list[Outputs]
    losses: list[MREDLosses]
    first: str

    @property
    def sets(self) -> int:
        """Number of BatchNorm sets that the file asks for."""
        shared = self.written.get("batchnorm", "private") == "shared"
        return 1 if shared else len(self.written["resolutions"])


@cache
def values(file: str) -> dict[str, Any]:
    """Read a file as it is written."""
    return read_yaml(ROOT / file)


def arithmetic(file: str) -> tuple[object, ...]:
    """Return all that decides how a step is computed, but for the sizes of the views."""
    written = values(file)
    others = {"resolutions", "data", "epochs", "batch_size", "optim", "schedule", "augmentation"}
    rest = {key: value for key, value in written.items() if key not in others}
    return len(written["resolutions"]), json.dumps(rest, sort_keys=True)


def last_layer(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return a network's last layer as a function from images to logits, for few of its inputs."""
    layer = [child for child in network.modules() if isinstance(child, nn.Linear)][-1]
    return lambda images: F.linear(images.mean(dim=(2, 3)), layer.weight[:, :3], layer.bias)


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    return write_all_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module", params=CLASSIFIERS)
def run(
    request: pytest.FixtureRequest,
    roots: dict[int, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    written = values(request.param)
    first = next(file for file in CLASSIFIERS if arithmetic(file) == arithmetic(request.param))
    small = small_values(written, roots)
    config = load_config(ClassificationConfig, ROOT / request.param, small)
    batches = training_batches(config)
    with pytest.MonkeyPatch.context() as patch:
        # Counting multiply-adds would take longer than the steps.
        for module in ("rsseg.training.metadata", "classification.task"):
            patch.setattr(f"{module}.count_macs", lambda *_: 0)
        patch.setattr("rsseg.training.beginning.computes_bf16", lambda _: True)
        net = build_net(CLASSIFICATION, config, torch.device("cpu"))
        job = build_job(CLASSIFICATION, config, net, batches, TestImages(config))
    if first != request.param:
        net.network.forward = last_layer(net.network)
    seen: list[Outputs] = []

    def watched(outputs: Outputs) -> MREDLosses:
        scores = None if outputs.scores is None else outputs.scores.detach().clone()
        logits = [z.detach() for z in outputs.logits]
        seen.append(outputs._replace(logits=logits, scores=scores))
        return job.loss(outputs)

    training = Training(replace(job, loss=watched), RunFolder(tmp_path_factory.mktemp("run")))
    found = Run(written, job, training, [], [], seen, [], first)
    places = ((0, 0), (written["epochs"] // 2, 1))
    for place, (views, target) in zip(places, batches.epoch(0), strict=False):
        # The rate of the second step of all would hardly tell one schedule from another.
        training.progress.epoch, training.progress.step = place
        found.views.append(views)
        found.losses.append(training.stepper.step(views, target))
        found.rates.append([group["lr"] for group in training.stepper.optimizer.param_groups])
    return found


def test_learning_rate_follows_the_schedule_with_every_step(run: Run) -> None:
    middle = run.written["epochs"] // 2 + 1 / run.job.batches.steps
    for epoch, rates in zip((0.0, middle), run.rates, strict=True):
        expected = rate_by_hand(run.written, epoch)
        assert rates == pytest.approx([expected] * len(rates), rel=1e-9, abs=1e-12)


def test_parameters_decay_as_written_and_scores_only_on_request(run: Run) -> None:
    net, optim = run.job.net, run.written["optim"]
    groups = run.training.stepper.optimizer.param_groups
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    for name, parameter in net.named_parameters():
        kept = name == "scores" and not optim.get("decay_scores", False)
        expected = 0.0 if kept else optim["weight_decay"]
        assert decay.pop(id(parameter)) == expected
    assert not decay
    assert {group["momentum"] for group in groups} == {optim["momentum"]}
    assert not any(group["nesterov"] for group in groups)


def test_every_parameter_has_been_trained(run: Run, request: pytest.FixtureRequest) -> None:
    if run.first not in request.node.name:
        pytest.skip(f"{run.first} trains the same network")
    state, model = run.training.stepper.optimizer.state, run.written["model"]
    # A branch whose last gamma is 0 learns from the step on that has moved it; the first one of a
    # rising learning rate moves nothing.
    closed = model.get("options", {}).get("zero_init_residual") and not any(run.rates[0])
    for name, parameter in run.job.net.named_parameters():
        if closed and re.search(r"layer\d\.\d\.(conv|bn)\d\.", name):
            continue
        assert state[parameter]["momentum_buffer"].abs().sum() > 0, name


def test_network_has_the_parameters_of_its_name_width_classes_and_sets(run: Run) -> None:
    model, net = run.written["model"], run.job.net
    one, five, features = COUNTS[model["name"]]
    batchnorm = (five - one) // 4
    if model["width"] != 1:
        assert run.sets == 1
        one = mobilenet_parameters(model["width"])
    expected = one - (1000 - model["classes"]) * (features + 1) + (run.sets - 1) * batchnorm
    assert sum(parameter.numel() for parameter in net.network.parameters()) == expected


def test_batchnorm_has_one_set_for_each_resolution_or_is_shared(run: Run) -> None:
    counts = {len(layer.sets) for layer in switchable_layers(run.job.net)}
    shared = run.written.get("batchnorm", "private") == "shared"
    assert counts == (set() if shared else {len(run.written["resolutions"])})


def test_scores_exist_where_an_ensemble_teaches(run: Run) -> None:
    scores = run.job.net.scores
    shape = None if run.written["distillation"] == "none" else (len(run.written["resolutions"]),)
    assert (None if scores is None else scores.shape) == shape


def test_scores_are_ones_before_the_first_step(run: Run) -> None:
    scores = run.seen[0].scores
    assert scores is None or scores.tolist() == [1.0] * len(run.written["resolutions"])


def test_loss_of_both_steps_is_that_of_the_file(run: Run) -> None:
    variant, smoothing = run.written["distillation"], run.written.get("label_smoothing", 0.0)
    for outputs, losses in zip(run.seen, run.losses, strict=True):
        expected = loss_by_hand(variant, outputs, smoothing)
        assert losses.total.item() == pytest.approx(expected, rel=1e-5)


def test_distillation_is_the_variant_of_the_file_and_no_other(run: Run) -> None:
    variant, smoothing = run.written["distillation"], run.written.get("label_smoothing", 0.0)
    # The first logits of a network hardly differ between resolutions; these do.
    source = torch.Generator().manual_seed(0)
    shape = (len(run.written["resolutions"]), 6, run.written["model"]["classes"])
    logits, scores = torch.randn(shape, generator=source), torch.rand(shape[0], generator=source)
    outputs = Outputs(
        list(logits), torch.arange(6), None if variant == "none" else scores, list(logits)
    )
    loss = run.job.loss(outputs).total.item()
    assert loss == pytest.approx(loss_by_hand(variant, outputs, smoothing), rel=1e-5)
    others = [loss_by_hand(other, outputs, smoothing) for other in VARIANTS if other != variant]
    assert len(logits) == 1 or min(abs(other / loss - 1) for other in others) > 1e-3


def test_views_have_their_sizes_and_are_normalised_as_written(run: Run) -> None:
    settings = run.written["preprocessing"]
    mean, std = (torch.tensor(settings[key]).view(3, 1, 1) for key in ("mean", "std"))
    sides = [small_side(side) for side in run.written["resolutions"]]
    for views, outputs in zip(run.views, run.seen, strict=True):
        assert [view.shape[1:] for view in views] == [(3, side, side) for side in sides]
        for view, given in zip(views, outputs.views, strict=True):
            torch.testing.assert_close(given, (view / 255 - mean) / std)


def test_forward_pass_has_the_precision_of_the_file(run: Run) -> None:
    # "auto" on a processor with bf16, as the fixture pretends; these have no depthwise layer.
    expected = {"fp32": torch.float32, "auto": torch.bfloat16}[run.written["precision"]]
    assert {z.dtype for outputs in run.seen for z in outputs.logits} == {expected}
