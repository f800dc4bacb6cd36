"""What a CUDA device must give: the results of the CPU. Run with `pytest -m gpu`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from rsseg.losses.distillation import VARIANTS
from rsseg.losses.pixelwise import pixelwise_mred_loss
from rsseg.training.loop import Training
from rsseg.training.run_folder import RunFolder
from rsseg.training.step import StepSettings, train_step
from tests.helpers.small_runs import EPOCHS, loss_of, small_job, small_net

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("variant", VARIANTS)
def test_pixelwise_loss_is_that_of_the_cpu(variant: str) -> None:
    torch.manual_seed(0)
    sizes = (22, 14, 6)
    logits = [torch.randn(2, 40, side, side, dtype=torch.float64) for side in sizes]
    target = torch.randint(0, 40, (2, 88, 88), dtype=torch.uint8)
    target[:, :9] = 255
    found = []
    for device in ("cpu", "cuda"):
        own = [z.to(device).requires_grad_() for z in logits]
        scores = torch.ones(3, dtype=torch.float64, device=device, requires_grad=True)
        losses = pixelwise_mred_loss(own, target.to(device), scores, variant=variant)
        losses.total.backward()  # type: ignore[no-untyped-call]
        gradients = [z.grad for z in (*own, scores) if z.grad is not None]
        found.append([value.detach().cpu() for value in (*losses, *gradients)])
    for cpu, cuda in zip(*found, strict=True):
        torch.testing.assert_close(cuda, cpu, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_step_is_near_that_of_the_cpu(precision: str) -> None:
    totals = []
    for device in ("cpu", "cuda"):
        net = small_net().to(device).eval()  # Without dropout, whose draws differ.
        torch.manual_seed(1)
        views = [torch.randn(2, 3, side, side).to(device) for side in net.resolutions]
        target = torch.randint(0, 5, (2, 16, 16)).to(device)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(3):
            losses = train_step(
                net,
                views,
                target,
                loss_of,
                optimizer,
                scores=net.scores,
                settings=StepSettings(precision=precision),
            )
        totals.append(losses.total.item())
    assert totals[1] == pytest.approx(totals[0], rel=1e-3 if precision == "fp32" else 5e-2)


def test_run_that_was_saved_goes_on(tmp_path: Path) -> None:
    first = small_job()
    first.net.to("cuda")
    training = Training(first, RunFolder(tmp_path))
    training.save(training.folder.last, "the last step")
    second = small_job()
    second.net.to("cuda")
    continued = Training.resume(second, RunFolder(tmp_path))
    assert continued.progress.epoch == 0 < EPOCHS
    assert all(tensor.is_cuda for tensor in second.net.state_dict().values())
