"""The MRED loss over label maps in one Triton kernel, for CUDA devices.

Each program takes a small tile of the label map. It reads the four cells of every resolution's
logits around each pixel, has losses and gradients in closed form, multiplies the gradients by the
tile's bilinear weights and adds the product to maps of the logits' own size. Nothing else of the
label map's size is read or stored.

Several tiles meet in one cell, so these additions are atomic and the gradients' last bits vary. A
program per cell could do without, but would compute each pixel for four cells of every resolution.

What has been measured: values and gradients are right in Triton's interpreter, and the kernel
compiles for compute capability 8.0 to 12.0; on 9.0 three resolutions and 40 classes spill no
registers. It has not run on a GPU: its speed there is unknown.
"""

from __future__ import annotations

import functools
import math
import os
import shutil
import sysconfig
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rsseg.losses.distillation import VARIANTS, Term
from rsseg.losses.mred import MREDLosses, mred_loss
from rsseg.losses.pixelwise_kernel import tile_losses, triton

_OLDEST = (3, 5)  # Before, Triton did not know tuples of constants.


def runs_fused(target: Tensor, logits: Sequence[Tensor], scores: Tensor | None) -> bool:
    """Return whether the kernel takes these: tensors of one CUDA device, none of them float64.

    Under TRITON_INTERPRET=1 they may lie on the CPU. RSSEG_TRITON=0 and deterministic algorithms
    turn the kernel off.
    """
    tensors = [*logits] if scores is None else [*logits, scores]
    sides = [2 * a * b for z in logits for a, b in zip(target.shape[1:], z.shape[2:], strict=True)]
    return (
        os.environ.get("RSSEG_TRITON") != "0"
        and _usable(target.device)
        and not torch.are_deterministic_algorithms_enabled()
        and all(t.device == target.device and t.dtype != torch.float64 for t in tensors)
        and all(t.numel() > 0 for t in (target, *tensors))
        and (len(logits) <= 8 and logits[0].shape[1] <= 256)  # More would not fit the registers.
        and max(sides) < 1 << 30  # Positions are 32-bit numbers.
    )


@functools.cache
def _usable(device: torch.device) -> bool:
    """Return whether Triton is installed, new enough, and can run kernels on this device."""
    if triton is None or tuple(map(int, triton.__version__.split(".")[:2])) < _OLDEST:
        return False
    if not isinstance(tile_losses, triton.JITFunction):  # The interpreter has taken over.
        return agrees(device)
    if device.type != "cuda" or torch.version.cuda is None:
        return False
    # Triton builds its launcher at the first call: slim installations cannot.
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    ready = bool(compiler) and header.exists()
    return ready and torch.cuda.get_device_capability(device) >= (8, 0) and agrees(device)


def agrees(device: torch.device) -> bool:
    """Return whether the kernel agrees with the reference on a small example; warn if not.

    A new device or version of Triton must not train with a wrong loss.
    """
    draw = torch.Generator().manual_seed(0)
    logits = [torch.randn(1, 5, side, side, generator=draw).to(device) for side in (6, 3)]
    target = torch.randint(0, 5, (1, 9, 11), generator=draw).to(device)
    scores = torch.tensor([0.5, -0.5], device=device)
    terms = VARIANTS["full"](2)
    try:
        with torch.no_grad():
            losses, gradients = fused_losses(
                target, logits, scores.softmax(0), terms, ignore_index=2, gradients=True
            )
        expected, slopes = _reference(target, logits, scores)
        for one, other in zip((*losses, *gradients), (*expected, *slopes), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    except Exception as error:  # Whatever it is, the plain path works.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        warnings.warn(
            f"the Triton kernel of the pixel-wise loss is not used on {device}: {reason}; the "
            "loss is computed by plain PyTorch (RSSEG_TRITON=0 chooses that without a try)",
            stacklevel=2,
        )
        return False
    return True


def _reference(
    target: Tensor, logits: Sequence[Tensor], scores: Tensor
) -> tuple[MREDLosses, tuple[Tensor, ...]]:
    """Compute the example by `mred_loss`, with gradients for the scores and each logits."""
    with torch.enable_grad(), torch.autocast(target.device.type, enabled=False):
        leaves = [tensor.detach().requires_grad_() for tensor in (scores, *logits)]
        size = tuple(target.shape[1:])
        resized = [F.interpolate(z, size=size, mode="bilinear") for z in leaves[1:]]
        losses = mred_loss(torch.stack(resized), target, leaves[0], ignore_index=2)
        return losses, torch.autograd.grad(losses.total, leaves)


def fused_losses(
    target: Tensor,
    logits: Sequence[Tensor],
    alpha: Tensor | None,
    terms: Sequence[Term],
    *,
    ignore_index: int,
    gradients: bool,
) -> tuple[MREDLosses, list[Tensor | None]]:
    """Return the losses, and the gradients of their total for the raw scores and for each logits.

    Target (B, H, W) and logits (B, K, h_s, w_s) are as in `pixelwise_mred_loss`, alpha (S,) are
    the shares in the ensemble, if any; without `gradients` those for the logits are None.
    """
    batch, classes = logits[0].shape[:2]
    block, options = _launch(len(logits), classes)
    # A cell's values lie side by side then; logits of channels_last networks are not copied.
    maps = [z.contiguous(memory_format=torch.channels_last) for z in logits]
    slopes = [torch.zeros_like(z, dtype=torch.float32) if gradients else None for z in maps]
    tiles = [-(-a // b) for a, b in zip(target.shape[1:], block, strict=False)]
    scale = 1 / (target.long() != ignore_index).sum().clamp(min=1)
    sums = scale.new_zeros(batch * math.prod(tiles), 3 + len(logits))
    with torch.cuda.device(target.device if target.is_cuda else -1):  # -1 changes nothing.
        tile_losses[(len(sums),)](
            tuple((z, g, *z.shape[2:]) for z, g in zip(maps, slopes, strict=True)),
            (target.contiguous(), *target.shape[1:], ignore_index),
            alpha,
            tuple(float(term.weight) for term in terms),
            scale,
            sums,
            terms=tuple((term.teacher, term.student) for term in terms),
            block=block,
            **options,
        )
    parts = sums.sum(dim=0) * scale
    of_alpha = parts[3:]
    score_gradient = None if alpha is None else alpha * (of_alpha - (alpha * of_alpha).sum())
    return MREDLosses(parts[:3].sum(), *parts[:3]), [score_gradient, *slopes]


def _launch(count: int, classes: int) -> tuple[tuple[int, ...], dict[str, Any]]:
    """Return a block, and options that keep common sizes in registers, two blocks at a time."""
    padded = max(16, triton.next_power_of_2(classes))  # tl.dot takes sides of 16 and more.
    # A thread holds 4 * 8 * padded * count / (32 * warps) logits: 24 of 3 resolutions, 64 classes.
    warps = 8 if padded <= 64 and count <= 3 else 16
    block = (4, 8 if padded <= 64 else 4, 16, padded, classes)
    # 128 registers for each of 8 * 32 threads are half of the 65536 that a multiprocessor has.
    return block, {"num_warps": warps, "maxnreg": 128, "enable_fp_fusion": True}
