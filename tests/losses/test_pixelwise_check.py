"""The check of the Triton kernel before its first use: one that fails or differs is left out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rsseg.losses import pixelwise_triton
from rsseg.losses.mred import MREDLosses
from rsseg.losses.pixelwise import pixelwise_mred_loss
from rsseg.losses.pixelwise_triton import agrees

CPU = torch.device("cpu")


def plain(factor: float) -> Any:
    """The streamed loss in place of the kernel, its first gradient scaled."""

    def losses(
        target: Tensor, logits: list[Tensor], alpha: Tensor, _terms: object, **options: Any
    ) -> tuple[MREDLosses, list[Tensor]]:
        options.pop("gradients")
        with torch.enable_grad():
            leaves = [alpha.log().requires_grad_(), *(z.clone().requires_grad_() for z in logits)]
            found = pixelwise_mred_loss(leaves[1:], target, leaves[0], **options)
            gradients = list(torch.autograd.grad(found.total, leaves))
        gradients[1] = factor * gradients[1]
        return MREDLosses(*(value.detach() for value in found)), gradients

    return losses


def test_kernel_that_computes_the_same_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixelwise_triton, "fused_losses", plain(1.0))
    assert agrees(CPU)


def test_kernel_that_differs_is_not_used_and_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixelwise_triton, "fused_losses", plain(1.01))
    with pytest.warns(UserWarning, match="is not used on cpu: Tensor-likes are not close"):
        assert not agrees(CPU)


def test_kernel_that_fails_is_not_used_and_the_reason_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("PTX assembly aborted")

    monkeypatch.setattr(pixelwise_triton, "fused_losses", fail)
    with pytest.warns(UserWarning, match="PTX assembly aborted; the loss is computed by plain"):
        assert not agrees(CPU)
