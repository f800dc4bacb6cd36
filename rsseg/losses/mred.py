"""Multi-resolution ensemble distillation (MRED).

The S logits of a batch are averaged into a teacher; every resolution then learns from
the teacher and from each larger resolution. Functions over tensors only: nothing here
knows a network, a dataset or a device. This is the readable reference; `pixelwise.py`
computes the same loss over label maps with little memory.

Source: Wang et al., "Resolution Switchable Networks for Runtime Efficient Image
Recognition", ECCV 2020, https://arxiv.org/abs/2007.09558, Eq. 2, 5 to 10 and Table 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rsseg.losses.distillation import EXTERNAL, Term, check_scores, distillation_terms
from rsseg.losses.targets import check_target, cross_entropy, valid_mean


class MREDLosses(NamedTuple):
    """The loss of a batch and its three parts, scalars; total is their sum.

    Attributes:
        total: What training minimises (Eq. 9).
        classification: Cross entropy, summed over the resolutions (Eq. 2).
        ensemble: Cross entropy of the ensemble; trains the scores alone (Eq. 6).
        distillation: Weighted sum of the distillation terms (Eq. 8 or 10).
    """

    total: Tensor
    classification: Tensor
    ensemble: Tensor
    distillation: Tensor


def ensemble_logits(logits: Tensor, scores: Tensor) -> Tensor:
    r"""Average the logits of all resolutions into the logits of the teacher (Eq. 5).

    .. math:: z_0 = \sum_s \mathrm{softmax}(a)_s \, z_s

    The logits are detached: the result trains `scores` and nothing else.

    Args:
        logits: Logits z, largest resolution first, shape (S, B, K) or (S, B, K, H, W).
        scores: Raw ensemble scores a, shape (S,).

    Returns:
        Logits of the teacher, shape (B, K) or (B, K, H, W); float32 for half precision.

    Raises:
        ValueError: If `scores` does not hold one value per resolution.

    Example:
        >>> logits = torch.stack([torch.zeros(1, 2), torch.ones(1, 2)])
        >>> ensemble_logits(logits, torch.zeros(2))
        tensor([[0.5000, 0.5000]])
    """
    check_scores(scores, len(logits))
    dtype = working_dtype(logits)
    # Autocast would run the sum in half precision, and the teacher's small differences matter.
    with torch.autocast(logits.device.type, enabled=False):
        alpha = scores.to(dtype).softmax(dim=0)
        return torch.einsum("s,s...->...", alpha, logits.detach().to(dtype))


def mred_loss(
    logits: Tensor | Sequence[Tensor],
    target: Tensor,
    scores: Tensor | None,
    *,
    variant: str = "full",
    ignore_index: int = -100,
    distillation_scale: float = 1.0,
    label_smoothing: float = 0.0,
    teacher: Tensor | None = None,
    teacher_weight: float = 1.0,
) -> MREDLosses:
    r"""Compute classification, ensemble and distillation loss of a batch (Eq. 9).

    .. math:: L = \sum_s CE(z_s, y) + CE(z_0, y)
              + \sum_{(t, s, w)} w \, D_{kl}(p_t \| p_s)

    All means run over the positions whose target is not `ignore_index`; without any such
    position every loss and gradient is 0. Teachers are detached. Half precision is computed
    in float32, so are the losses then.

    Args:
        logits: Logits z, largest resolution first, shape (S, B, K) or (S, B, K, H, W), or a
            sequence of S tensors of one shape.
        target: Classes 0..K-1 or `ignore_index`, any integer type, shape (B,) or (B, H, W).
            Other values are an error on the CPU; on a GPU, where looking would stall the
            step, the reader has to guarantee the range. Or the share of each class, floating
            point, shape (B, K), as mixed images have it.
        scores: Raw ensemble scores a, shape (S,); None for no ensemble, whose loss is then 0.
        variant: Name of the distillation terms, a key of VARIANTS.
        ignore_index: Target of the positions that do not count.
        distillation_scale: Factor on the distillation loss.
        label_smoothing: Share of the target that goes to all classes alike, 0..1.
        teacher: Logits of a fixed network, shape (B, K), that teaches every resolution besides:
            sum_s D_kl(p_teacher || p_s) is added to the distillation loss.
        teacher_weight: Factor on that sum.

    Returns:
        The four losses, scalars that all carry gradients.

    Raises:
        ValueError: If the variant is unknown or needs scores that are None, or shapes, types or
            values do not fit each other.

    Example:
        >>> logits = torch.zeros(2, 1, 4)
        >>> mred_loss(logits, torch.tensor([3]), torch.ones(2)).classification
        tensor(2.7726)
    """
    stacked = _stacked(logits)
    terms = distillation_terms(variant, len(stacked), scores, distillation_scale)
    target, valid = _checked(target, stacked, ignore_index)
    # One log-softmax and one set of probabilities for each logits, shared by all terms.
    log_p = list(stacked.log_softmax(dim=2))
    classification = stacked.new_zeros(())
    for z in log_p:
        classification = classification + cross_entropy(z, target, valid, label_smoothing)
    ensemble = distillation = stacked.new_zeros(())
    teachers = {t: z.detach() for t, z in enumerate(log_p, start=1)}
    if scores is not None:
        log_p_0 = ensemble_logits(stacked, scores).log_softmax(dim=1)
        ensemble = cross_entropy(log_p_0, target, valid, label_smoothing)
        teachers[0] = log_p_0.detach()
    if teacher is not None:
        terms = terms + _external(teacher, stacked, teacher_weight)
        teachers[EXTERNAL] = teacher.detach().to(stacked.dtype).log_softmax(dim=1)
    for s, z in enumerate(log_p, start=1):
        weights = {t: weight for t, student, weight in terms if student == s}
        if weights:
            divergence = _divergence(weights, teachers, z)
            distillation = distillation + valid_mean(divergence, valid)
    total = classification + ensemble + distillation
    return MREDLosses(total, classification, ensemble, distillation)


def _divergence(weights: dict[int, float], teachers: dict[int, Tensor], log_p: Tensor) -> Tensor:
    r"""Return \sum_t w_t D_kl(p_t || p_s) of one student at every position.

    All teachers are mixed first, \sum_t w_t p_t: only one tensor of the logits' size is kept for
    the backward pass, however many teachers there are.
    """
    mixture, negative_entropy = torch.zeros_like(log_p), torch.zeros_like(log_p[:, 0])
    with torch.no_grad():
        for t, weight in weights.items():
            p = weight * teachers[t].exp()
            mixture += p
            negative_entropy += (p * teachers[t]).sum(dim=1)
    return negative_entropy - (mixture * log_p).sum(dim=1)


def _checked(target: Tensor, stacked: Tensor, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Return the target in its working type, and which positions count."""
    positions = (stacked.shape[1], *stacked.shape[3:])
    if target.is_floating_point() and target.shape == stacked.shape[1:] and stacked.ndim == 3:
        return target.to(stacked.dtype), torch.ones(positions, dtype=torch.bool).to(target.device)
    check_target(target, positions, stacked.shape[2], ignore_index)
    target = target.long()  # First: -100 would be class 156 of a uint8.
    return target, target != ignore_index


def _external(teacher: Tensor, stacked: Tensor, weight: float) -> list[Term]:
    if teacher.shape != stacked.shape[1:]:
        raise ValueError(
            f"the teacher's logits must have shape {tuple(stacked.shape[1:])} as those of each "
            f"resolution, got {tuple(teacher.shape)}"
        )
    return [Term(EXTERNAL, s, weight) for s in range(1, len(stacked) + 1)]


def working_dtype(*tensors: Tensor) -> torch.dtype:
    """Return float64 if any tensor is float64, else float32."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def _stacked(logits: Tensor | Sequence[Tensor]) -> Tensor:
    """Return logits as one tensor (S, B, K) or (S, B, K, H, W) of the working type."""
    if len(logits) == 0:
        raise ValueError("logits hold no resolution; pass at least one")
    if not isinstance(logits, Tensor):
        shapes = [tuple(z.shape) for z in logits]
        if len(set(shapes)) > 1:
            raise ValueError(
                f"logits must have one shape at all resolutions, got {shapes}; "
                "for label maps, resize them or use pixelwise_mred_loss"
            )
        logits = torch.stack(list(logits))
    if logits.ndim not in (3, 5) or not logits.is_floating_point():
        raise ValueError(
            "logits must be floating point of shape (S, B, K) or (S, B, K, H, W), "
            f"got {logits.dtype} {tuple(logits.shape)}"
        )
    return logits.to(working_dtype(logits))
