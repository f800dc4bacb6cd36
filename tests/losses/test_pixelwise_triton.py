"""The Triton kernel of the pixel-wise loss, against the reference in float64.

Triton chooses between GPU and interpreter when a kernel is defined. Another process therefore runs
this file as a script, in the interpreter on the CPU, and prints the errors; the tests read them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rsseg.losses.distillation import VARIANTS
from rsseg.losses.pixelwise import pixelwise_mred_loss
from rsseg.losses.pixelwise_triton import runs_fused
from tests.helpers.processes import ROOT
from tests.losses.test_pixelwise import SMALL, Case, case, reference

Errors = dict[str, float]


def errors(
    c: Case,
    variant: str = "full",
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    ensemble: bool = True,
    stored: Callable[[Tensor], Tensor] = lambda z: z,
) -> Errors:
    """Largest error of the losses and of the gradients, relative to the largest entry of each."""
    logits = [stored(z.detach().to(device, dtype)).requires_grad_() for z in c.logits]
    scores = c.scores.detach().to(device, torch.float32).requires_grad_() if ensemble else None
    assert runs_fused(c.target.to(device), logits, scores)
    found = pixelwise_mred_loss(logits, c.target.to(device), scores, variant=variant)
    exact = [z.detach().cpu().double().requires_grad_() for z in logits]
    exact_scores = scores if scores is None else scores.detach().cpu().double().requires_grad_()
    expected = reference(exact, c.target, exact_scores, variant)
    inputs = logits if scores is None else [*logits, scores]
    exact_inputs = exact if exact_scores is None else [*exact, exact_scores]
    gradients = torch.autograd.grad(found.total, inputs)
    assert [g.dtype for g in gradients] == [z.dtype for z in inputs]
    assert [x.requires_grad for x in found] == [True, False, False, False]
    return {
        "losses": max(map(_error, found, expected)),
        "gradients": max(map(_error, gradients, torch.autograd.grad(expected.total, exact_inputs))),
    }


def _error(found: Tensor, expected: Tensor) -> float:
    difference = (found.detach().cpu().double() - expected.detach()).abs().max()
    return float(difference / expected.detach().abs().max().clamp(min=1e-3))


def _random_case(seed: int) -> Case:
    g = torch.Generator().manual_seed(seed)
    count, classes, height, width, *sides = torch.randint(1, 12, (12,), generator=g).tolist()
    sizes = list(zip(sides[::2], sides[1::2], strict=True))[: 1 + count % 4]
    return case(sizes, (height, width), batch=1, classes=classes, seed=seed)


def _first_image_void() -> Case:
    c = case(SMALL, (4, 7))
    c.target[0] = 255
    return c


def _extreme() -> Case:
    c = case(SMALL, (4, 7))
    for z in c.logits:
        z.data *= 1000
    return c


def _channels_last(z: Tensor) -> Tensor:
    return z.to(memory_format=torch.channels_last)


def _transposed(z: Tensor) -> Tensor:
    return z.transpose(2, 3).contiguous().transpose(2, 3)


IN_FLOAT32: dict[str, Callable[[], Errors]] = {
    **{v: partial(errors, case(SMALL, (4, 8), batch=1), v) for v in VARIANTS},
    "several tiles and images": lambda: errors(case(SMALL, (12, 10), classes=5)),
    "one resolution": lambda: errors(case([(6, 7)], (5, 9), classes=5)),
    "eight resolutions": lambda: errors(case([(s, 9 - s) for s in range(1, 9)], (4, 6), batch=1)),
    "no ensemble": lambda: errors(case(SMALL, (4, 9)), "dense", ensemble=False),
    "logits larger than labels": lambda: errors(case([(17, 21), (9, 1)], (5, 6), batch=1)),
    "one class": lambda: errors(case(SMALL, (3, 5), classes=1)),
    "many classes": lambda: errors(case(SMALL, (4, 6), batch=1, classes=130)),
    "an image without valid pixel": lambda: errors(_first_image_void()),
    "extreme logits": lambda: errors(_extreme()),
    "channels_last": lambda: errors(case(SMALL, (4, 7)), stored=_channels_last),
    "other strides": lambda: errors(case(SMALL, (4, 7)), stored=_transposed),
    **{f"random {seed}": partial(errors, _random_case(seed)) for seed in range(8)},
}
HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def _void() -> list[float]:
    """Losses and largest gradients without a valid pixel, of an int64 label map."""
    logits, target, scores = case(SMALL, (4, 7), dtype=torch.float32)
    target = torch.full_like(target, -100, dtype=torch.int64)
    losses = pixelwise_mred_loss(logits, target, scores, ignore_index=-100)
    gradients = torch.autograd.grad(losses.total, [*logits, scores])
    return [*(x.item() for x in losses), *(g.abs().max().item() for g in gradients)]


def _without_gradients() -> float:
    """Error of the scores' gradient if no logits want any."""
    logits, target, scores = case(SMALL, (4, 7), dtype=torch.float32)
    total = pixelwise_mred_loss([z.detach() for z in logits], target, scores).total
    (found,) = torch.autograd.grad(total, scores)
    exact = [z.double() for z in logits], target, scores.detach().double().requires_grad_()
    return _error(found, torch.autograd.grad(reference(*exact, "full").total, exact[2])[0])


def _choices() -> dict[str, bool]:
    """Whether the kernel is chosen."""
    logits, target, scores = case(SMALL, (4, 7), dtype=torch.float32)
    found = {
        "float32": runs_fused(target, logits, scores),
        "a float64 map": runs_fused(target, [*logits, logits[0].double()], scores),
        "float64 scores": runs_fused(target, logits, scores.double()),
        "nine maps": runs_fused(target, logits * 3, None),
        "huge maps": runs_fused(target[:, :1].expand(-1, 1 << 30, -1), logits, None),
    }
    torch.use_deterministic_algorithms(True)
    found["deterministic"] = runs_fused(target, logits, scores)
    torch.use_deterministic_algorithms(False)
    os.environ["RSSEG_TRITON"] = "0"
    found["RSSEG_TRITON=0"] = runs_fused(target, logits, scores)
    return found


def _in_this_process() -> dict[str, Any]:
    half = {
        name: errors(case(SMALL, (4, 7), batch=1), dtype=dtype) for name, dtype in HALVES.items()
    }
    return {
        "float32": {name: find() for name, find in IN_FLOAT32.items()},
        "half": half,
        "void": _void(),
        "without gradients": _without_gradients(),
        "choices": _choices(),
    }


@pytest.fixture(scope="module")
def interpreted() -> dict[str, Any]:
    """Everything above, found in Triton's interpreter."""
    pytest.importorskip("triton", minversion="3.5")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("RSSEG_TRITON", None)
    command = [sys.executable, "-m", "tests.losses.test_pixelwise_triton"]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("name", IN_FLOAT32)
def test_losses_and_gradients_equal_the_reference(interpreted: dict[str, Any], name: str) -> None:
    found = interpreted["float32"][name]
    assert max(found.values()) < 1e-5, found


@pytest.mark.parametrize("name", HALVES)
def test_half_precision_is_computed_in_float32(interpreted: dict[str, Any], name: str) -> None:
    found = interpreted["half"][name]
    assert found["losses"] < 1e-5
    assert found["gradients"] < 1e-2  # They come back in half precision.


def test_label_map_without_valid_pixel_gives_zeros(interpreted: dict[str, Any]) -> None:
    assert interpreted["void"] == [0.0] * 8


def test_scores_learn_from_fixed_logits(interpreted: dict[str, Any]) -> None:
    assert interpreted["without gradients"] < 1e-5


def test_kernel_leaves_to_plain_pytorch_what_it_cannot_do(interpreted: dict[str, Any]) -> None:
    chosen = {name for name, chosen in interpreted["choices"].items() if chosen}
    assert chosen == {"float32"}


def test_processor_gets_plain_pytorch() -> None:
    logits, target, scores = case(SMALL, (4, 7), dtype=torch.float32)
    assert not runs_fused(target, logits, scores)


COMPILE = """
import torch, triton
from triton.backends.compiler import GPUTarget
from rsseg.losses import pixelwise_triton as p

class Driver:
    get_current_target = lambda self: GPUTarget("cuda", 90, 32)
    get_current_device = lambda self: 0
    get_current_stream = lambda self, device: 0

triton.runtime.driver.set_active(Driver())
e = torch.empty
block, options = p._launch(2, 5)
maps = (e(9, dtype=torch.bfloat16), e(9), 6, 7), (e(9), e(9), 1, 2)
kernel = p.tile_losses.warmup(
    maps, (e(9, dtype=torch.uint8), 12, 1, 255), e(2), (0.5, 1.0), e(1), e(9, 5),
    terms=((0, 1), (1, 2)), block=block, grid=(1,), **options,
)
print("red.global" in kernel.asm["ptx"])
"""


def test_kernel_compiles_for_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    pytest.importorskip("triton", minversion="3.5")
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    command = [sys.executable, "-W", "error", "-c", COMPILE]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == "True\n", done.stderr


@pytest.mark.gpu
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gpu_gives_the_reference(variant: str, dtype: torch.dtype) -> None:
    c = case([(22, 22), (14, 14), (6, 6)], (88, 90), classes=40)
    found = errors(c, variant, device="cuda", dtype=dtype, stored=_channels_last)
    assert found["losses"] < 1e-4
    assert found["gradients"] < (1e-4 if dtype == torch.float32 else 1e-2)


@pytest.mark.gpu
@pytest.mark.parametrize("count_classes", [(1, 2), (3, 19), (5, 40), (3, 151), (8, 255)])
def test_gpu_gives_the_reference_for_any_number_of_maps(count_classes: tuple[int, int]) -> None:
    count, classes = count_classes
    c = case([(20 - 2 * s, 3 + s) for s in range(count)], (33, 47), classes=classes)
    assert max(errors(c, device="cuda").values()) < 1e-4


if __name__ == "__main__":
    print(json.dumps(_in_this_process()))
