"""Run an evaluator at every resolution, and for the ensemble of all trained ones."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from rsseg.common.distributed import is_main_process
from rsseg.images.preprocessing import Preprocessing
from rsseg.losses.mred import ensemble_logits
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.resolutions import set_names
from rsseg.switchable.step_scopes import held_weights

ENSEMBLE = "ensemble"


class Evaluator(Protocol):
    """Collects one set of logits over a data set."""

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Add a batch: logits (B, K) or (B, K, h, w), target (B,) or (B, H, W)."""

    def share(self) -> None:
        """Gather what all processes have collected; every process has to call this."""

    def result(self) -> dict[str, float]:
        """Return the metrics of all batches so far by name."""

    def only_answer(self) -> tuple[int, float] | None:
        """Return the one class that was predicted everywhere though others occur, and its share.

        The share is that of the class in the truth, 0..1. None where several were predicted, where
        the truth holds no other, or without any batch.
        """


E = TypeVar("E", bound=Evaluator)
Batch = tuple[Sequence[Tensor], Tensor | Sequence[Tensor]]


@dataclass(frozen=True)
class Evaluation(Generic[E]):
    """The evaluators by name of the resolution ("352", ..., "ensemble"), and the shares alpha.

    The shares are None where no ensemble was evaluated or none was trained.
    """

    evaluators: dict[str, E]
    alpha: dict[str, float] | None

    def results(self) -> dict[str, dict[str, float]]:
        """Return the metrics by resolution, then by name."""
        return {name: evaluator.result() for name, evaluator in self.evaluators.items()}


def alpha_of(net: SwitchableNet) -> dict[str, float] | None:
    """Return the share alpha = softmax(a) of each BatchNorm set, or None without an ensemble."""
    if net.scores is None:
        return None
    shares = net.scores.detach().softmax(0).tolist()
    return dict(zip(net.resolutions.names, shares, strict=True))


def combine(logits: Sequence[Tensor], scores: Tensor, size: Sequence[int]) -> Tensor:
    """Return the logits of the ensemble; logits of label maps are first brought to `size`.

    As in training, that is the size of the largest view.
    """
    if logits[0].dim() == 4:
        logits = [F.interpolate(z, size=tuple(size), mode="bilinear") for z in logits]
    return ensemble_logits(torch.stack(list(logits)), scores)


@torch.inference_mode()
def evaluate(
    net: SwitchableNet,
    batches: Iterable[Batch],
    make_evaluator: Callable[[], E],
    *,
    resolutions: Sequence[int],
    preprocessing: Preprocessing,
    device: torch.device,
) -> Evaluation[E]:
    """Evaluate a network at several resolutions in one pass over the data.

    Each of several processes evaluates its share of the batches and gets the results of all.

    The ensemble is evaluated when all trained resolutions are among `resolutions` and there are
    several. A network without scores (trained without ensemble) takes part with equal shares.

    Args:
        net: The network; it is put into evaluation mode and back.
        batches: Pairs of one uint8 view for each resolution and the target; a target may be a
            list of label maps of different sizes, one for each image.
        make_evaluator: Makes one empty evaluator.
        resolutions: The resolution of each view; one that was not trained uses the net's rule
            `unseen`.
        preprocessing: Normalises the views.
        device: Device of the network.
    """
    names, trained = list(set_names(resolutions)), net.resolutions.names
    with_ensemble = len(trained) > 1 and set(trained) <= set(names)
    members = [names.index(name) for name in trained] if with_ensemble else []
    evaluators = {name: make_evaluator() for name in names}
    if with_ensemble:
        evaluators[ENSEMBLE] = make_evaluator()
    scores = torch.ones(len(trained), device=device) if net.scores is None else net.scores
    # Trained sets go by their names ("224_2"), the others by resolution.
    sets = [n if n in trained else r for n, r in zip(names, resolutions, strict=True)]
    training = net.training
    net.eval()
    with net.holding(resolutions), held_weights(net):
        for views, target in _with_progress(batches):
            inputs = [preprocessing.normalise(view.to(device)) for view in views]
            logits = [net.predict(x, key) for x, key in zip(inputs, sets, strict=True)]
            if with_ensemble:
                sizes = [inputs[member].shape[-2:] for member in members]
                logits.append(combine([logits[member] for member in members], scores, sizes[0]))
            for evaluator, z in zip(evaluators.values(), logits, strict=True):
                update(evaluator, z, target)
    for evaluator in evaluators.values():
        evaluator.share()
    net.train(training)
    return Evaluation(evaluators, alpha_of(net) if with_ensemble else None)


def _with_progress(batches: Iterable[Batch]) -> Iterable[Batch]:
    """Return the batches with a progress bar, which a file gets less often than a terminal."""
    interval = 0.5 if sys.stderr.isatty() else 20  # seconds
    return tqdm(
        batches,
        desc="evaluate",
        unit="batch",
        leave=False,
        mininterval=interval,
        disable=not is_main_process(),
    )


def update(evaluator: Evaluator, logits: Tensor, target: Tensor | Sequence[Tensor]) -> None:
    """Add a batch of `Batch`es to an evaluator: logits (B, K) or (B, K, h, w), and their target."""
    if isinstance(target, Tensor):
        evaluator.update(logits, target.to(logits.device))
        return
    for one, label_map in zip(logits, target, strict=True):
        evaluator.update(one[None], label_map[None].to(logits.device))
