r"""The MRED loss over label maps, fast and small.

Equal to `mred_loss` over logits resized bilinearly to the label map, but nothing of the label
map's size times the classes is kept. One pass over bands of rows resizes the logits, a pair of
matrix products, and has the value and the gradient in closed form,

.. math:: \partial L / \partial z_s = (p_s - \mathrm{onehot}(y) + \sum_t w_{ts} (p_s - p_t)) / N

over N valid pixels, w_ts the weight of teacher t for student s. On CUDA one Triton kernel does the
same, see `pixelwise_triton.py`, unless any tensor is float64, deterministic algorithms are required
or the environment holds RSSEG_TRITON=0. Otherwise it is plain PyTorch, on any device.

Source: Wang et al., "Resolution Switchable Networks for Runtime Efficient Image
Recognition", ECCV 2020, https://arxiv.org/abs/2007.09558, Eq. 2, 5 to 10 and appendix C.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rsseg.losses.band_resize import BandResize, slices
from rsseg.losses.distillation import Term, distillation_terms
from rsseg.losses.mred import MREDLosses, working_dtype
from rsseg.losses.pixelwise_triton import fused_losses, runs_fused
from rsseg.losses.targets import check_target

# Values of one band, all resolutions together. A CPU is fastest with bands that stay in its cache,
# other devices with few and large kernels.
_CPU_BAND, _OTHER_BAND = 1 << 19, 1 << 24

# Logits count in bits inside the pass, e^x = 2^(x / ln 2): exp2 runs up to 4 x as fast as exp.
_LN2 = math.log(2)


def pixelwise_mred_loss(
    logits: Sequence[Tensor],
    target: Tensor,
    scores: Tensor | None,
    *,
    variant: str = "full",
    ignore_index: int = 255,
    distillation_scale: float = 1.0,
    teacher: Tensor | None = None,
    teacher_weight: float = 1.0,
) -> MREDLosses:
    """Compute the MRED losses (Eq. 9) of label maps from logits at their own sizes.

    Args:
        logits: S tensors, largest resolution first, shapes (B, K, h_s, w_s).
        target: Classes 0..K-1 or `ignore_index`, any integer type, shape (B, H, W). Other values
            are an error on the CPU; elsewhere the reader has to guarantee the range.
        scores: Raw ensemble scores a, shape (S,); None for no ensemble, whose loss is then 0.
        variant: Name of the distillation terms, a key of `rsseg.losses.distillation.VARIANTS`.
        ignore_index: Target of the pixels that do not count.
        distillation_scale: Factor on the distillation loss.
        teacher: Logits of a fixed network at any size, shape (B, K, h, w), that teaches every
            resolution besides: sum_s D_kl(p_teacher || p_s) is added to the distillation loss.
            Without a valid pixel anywhere in `target` its terms are 0 as well.
        teacher_weight: Factor on that sum.

    Returns:
        The four losses, scalars, float32 for half precision. Only `total` carries gradients, and
        only first derivatives; the three parts are detached, to be reported.

    Raises:
        ValueError: If the variant is unknown or needs scores that are None, or shapes, types or
            values do not fit each other.

    Example:
        >>> logits = [torch.zeros(1, 4, 3, 3), torch.zeros(1, 4, 2, 2)]
        >>> target = torch.zeros(1, 12, 12, dtype=torch.uint8)
        >>> pixelwise_mred_loss(logits, target, torch.ones(2)).classification
        tensor(2.7726)
    """
    _check_shapes([*logits, *([] if teacher is None else [teacher.detach()])], target)
    check_target(target, tuple(target.shape), logits[0].shape[1], ignore_index)
    terms = distillation_terms(variant, len(logits), scores, distillation_scale)
    gradients = torch.is_grad_enabled() and any(z.requires_grad for z in logits)
    if teacher is not None:
        # A row of its own behind the students, which learns nothing.
        row = len(logits) + 1
        terms = terms + [Term(row, s, teacher_weight) for s in range(1, row)]
    options = _Options(terms, ignore_index, gradients, teacher is not None)
    maps = logits if teacher is None else [*logits, teacher.detach()]
    return MREDLosses(*_apply(options, target, scores, *maps))


def _check_shapes(logits: Sequence[Tensor], target: Tensor) -> None:
    shapes = [tuple(z.shape) for z in logits]
    if not shapes or any(len(shape) != 4 or shape[:2] != shapes[0][:2] for shape in shapes):
        raise ValueError(f"logits must be maps (B, K, h, w) of equal B and K, got {shapes}")
    if target.ndim != 3 or len(target) != shapes[0][0]:
        expected = f"(B, H, W) with B = {shapes[0][0]} as the logits"
        raise ValueError(f"target must have shape {expected}, got {tuple(target.shape)}")


class _Options(NamedTuple):
    """Options of the pass, beside its tensors."""

    terms: list[Term]
    ignore_index: int
    gradients: bool
    taught: bool = False  # The last logits are those of a fixed teacher.


class _PixelwiseMRED(torch.autograd.Function):
    """Computes the gradients in the forward pass: they cost little beside the losses."""

    @staticmethod
    def forward(
        ctx: Any, options: _Options, target: Tensor, scores: Tensor | None, *logits: Tensor
    ) -> tuple[Tensor, ...]:
        with torch.autocast(target.device.type, enabled=False):
            losses, gradients = _compute(options, target, scores, logits)
        ctx.save_for_backward(*gradients)
        ctx.mark_non_differentiable(*losses[1:])
        return tuple(losses)

    @staticmethod
    def backward(ctx: Any, total: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "pixelwise_mred_loss has no second derivatives; "
                "leave out create_graph=True, or use mred_loss over resized logits"
            )
        # Half precision comes later, from autograd: a loss scale keeps small gradients alive.
        return None, None, *(g if g is None else g * total for g in ctx.saved_tensors)


@torch.compiler.disable  # type: ignore[untyped-decorator]  # Tracing would unroll the bands.
def _apply(*inputs: Any) -> Any:
    return _PixelwiseMRED.apply(*inputs)


def _compute(
    options: _Options, target: Tensor, scores: Tensor | None, logits: Sequence[Tensor]
) -> tuple[MREDLosses, list[Tensor | None]]:
    """Return the losses, and the gradients of their total for the scores and for each logits."""
    alpha = None if scores is None else scores.to(working_dtype(*logits)).softmax(dim=0)
    if not options.taught and runs_fused(target, logits, scores):
        terms, ignore_index, gradients, _ = options
        return fused_losses(
            target, logits, alpha, terms=terms, ignore_index=ignore_index, gradients=gradients
        )
    return _stream(options, target, alpha, logits)


def _stream(
    options: _Options, target: Tensor, alpha: Tensor | None, logits: Sequence[Tensor]
) -> tuple[MREDLosses, list[Tensor | None]]:
    """Return the same as `_compute`, from bands of rows; alpha are the shares in the ensemble."""
    dtype = working_dtype(*logits)
    like = logits[0].new_empty(0, dtype=dtype)
    students = len(logits) - options.taught
    weights = _weight_matrix(options.terms, len(logits), alpha is not None, like)
    # The gradient for z_s but for its one-hot part is row s of this times the probabilities.
    mix = (weights.sum(dim=1) + 1).diag() - weights
    first = 0 if alpha is None else 1
    resizes = [BandResize(z.shape[2:], target.shape[1:], like) for z in logits]
    own = logits[:students] if options.gradients else ()
    gradients = [_rows_first(z, dtype).zero_() for z in own]
    sums = [weights.new_zeros(len(weights), len(weights) + 2)]
    chunks, bands = _tiles(target, len(weights) * logits[0].shape[1])
    for images in chunks:
        maps = [_rows_first(z[images], dtype) / _LN2 for z in logits]
        for rows in bands:
            z = _resized(maps, resizes, rows, alpha, students)
            labels = target[images, rows].transpose(0, 1).flatten(0, 1).long()
            sums.append(_band(z, labels, options, mix[first : first + students]))
            for part, resize, gradient in zip(z, resizes, gradients, strict=False):
                resize.backward(part, rows, gradient[:, images])
    pixels = (target.long() != options.ignore_index).sum().clamp(min=1)
    means = torch.stack(sums).sum(dim=0) / pixels
    losses, score_gradient = _losses(means, weights, alpha, students)
    unchanged: list[Tensor | None] = [None] * (len(logits) - len(gradients))
    maps_gradients = [(g / pixels).permute(1, 2, 0, 3) for g in gradients]
    return losses, [score_gradient, *maps_gradients, *unchanged]


def _weight_matrix(terms: list[Term], count: int, ensemble: bool, like: Tensor) -> Tensor:
    """Return the weights as a matrix (student, teacher), with row 0 for an ensemble."""
    first = 0 if ensemble else 1
    weights = like.new_zeros(count + 1 - first, count + 1 - first)
    for t, s, weight in terms:
        weights[s - first, t - first] += weight
    return weights


def _tiles(target: Tensor, values_per_pixel: int) -> tuple[list[slice], list[slice]]:
    """Return slices of the batch (chunks of images) and slices of the rows (bands)."""
    budget = _CPU_BAND if target.device.type == "cpu" else _OTHER_BAND
    rows = max(1, budget // (values_per_pixel * target.shape[2]))
    images = max(1, rows // target.shape[1])
    return slices(target.shape[0], images), slices(target.shape[1], rows)


def _rows_first(maps: Tensor, dtype: torch.dtype) -> Tensor:
    """Copy (B, K, h, w) to (h, B, K, w): the maps of a band of rows are then one matrix."""
    copy = maps.new_empty([maps.shape[d] for d in (2, 0, 1, 3)], dtype=dtype)
    return copy.copy_(maps.permute(2, 0, 1, 3))


def _resized(
    maps: list[Tensor],
    resizes: list[BandResize],
    rows: slice,
    alpha: Tensor | None,
    students: int,
) -> Tensor:
    """Return a band's logits, (S, rows * B, K, W), behind the ensemble's and before a teacher's."""
    first = 0 if alpha is None else 1
    _, images, classes, _ = maps[0].shape
    count = (rows.stop - rows.start) * images
    z = maps[0].new_empty(len(maps) + first, count, classes, len(resizes[0].columns))
    for part, resize, cells in zip(z[first:], resizes, maps, strict=True):
        resize.forward(cells, rows, part)
    if alpha is not None:
        torch.mm(alpha[None], z[1 : 1 + students].flatten(1), out=z[:1].flatten(1))
    return z


def _band(z: Tensor, labels: Tensor, options: _Options, mix: Tensor) -> Tensor:
    """Return a band's sums, which the losses are made of; overwrite its logits by gradients.

    Of the logits z in bits, (R, N, K, W), the first S are overwritten by gradients; labels are
    (N, W), and mix (S, R) holds the factors of the probabilities in the gradients. The sums, in
    bits, (R, R + 2), are those of z_s p_t in column t, log denominator, and label's logit.
    """
    valid = labels != options.ignore_index
    index = torch.where(valid, labels, 0)[None, :, None].expand(len(z), -1, -1, -1)
    mask = valid[None, :, None].to(z.dtype)
    z -= z.amax(dim=2, keepdim=True)
    p = z.exp2()
    denominator = p.sum(dim=2, keepdim=True)
    p *= mask / denominator  # 0 at the other pixels, and with it all that follows.
    products = z.flatten(1) @ p.flatten(1).t()
    per_pixel = torch.stack([denominator.log2(), z.gather(2, index)]) * mask
    if options.gradients:
        gradient = z[: len(mix)]
        torch.mm(mix, p.flatten(1), out=gradient.flatten(1))
        gradient.scatter_add_(2, index[: len(mix)], -mask.expand_as(index[: len(mix)]))
    return torch.cat([products, per_pixel.flatten(2).sum(dim=2).t()], dim=1)


def _losses(
    means: Tensor, weights: Tensor, alpha: Tensor | None, students: int
) -> tuple[MREDLosses, Tensor | None]:
    """Return the losses, and the gradient for the raw scores, from means over pixels."""
    products, log_sum, picked = torch.split(means * _LN2, [len(weights), 1, 1], dim=1)
    cross_entropy = (log_sum - picked)[:, 0]
    # D_kl(p_t || p_s) = <p_t, log p_t> - <p_t, log p_s>, as a matrix (s, t).
    log_products = products - log_sum
    distillation = (weights * (log_products.diag() - log_products)).sum()
    if alpha is None:
        classification = cross_entropy[:students].sum()
        ensemble = torch.zeros_like(distillation)
        score_gradient = None
    else:
        own = slice(1, 1 + students)
        classification, ensemble = cross_entropy[own].sum(), cross_entropy[0]
        slope = products[own, 0] - picked[own, 0]
        score_gradient = alpha * (slope - (alpha * slope).sum())
    total = classification + ensemble + distillation
    return MREDLosses(total, classification, ensemble, distillation), score_gradient
