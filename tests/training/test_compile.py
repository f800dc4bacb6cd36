"""A compiled network: the same losses, one program for each resolution, the same state dict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rsseg.common.config import ConfigError
from rsseg.training.compile import compile_network
from rsseg.training.loop import Training
from rsseg.training.run_folder import RunFolder
from tests.helpers.small_runs import draw, small_config, small_job, small_net


def losses(tmp_path: Path, **values: Any) -> list[float]:
    training = Training(small_job(small_config(**values)), RunFolder(tmp_path))
    torch.manual_seed(2)
    found = []
    for step in range(3):
        found.append(float(training.stepper.step(*draw(step)).total))
        training.progress.step += 1
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled_network_gives_the_losses_of_the_plain_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    # Dropout of a compiled network draws other numbers.
    monkeypatch.setattr(torch.nn.Dropout, "forward", lambda _self, x: x)
    plain = losses(tmp_path)
    compiled = losses(tmp_path, compile="default")
    assert compiled == pytest.approx(plain, rel=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2
    assert "compiling the network for 2 resolutions" in capsys.readouterr().err


def test_compiling_changes_no_name_in_the_state_dict() -> None:
    net, plain = small_net(), small_net()
    compile_network(net, "default")
    assert net.state_dict().keys() == plain.state_dict().keys()
    assert torch._dynamo.config.recompile_limit >= 16


def test_no_compiling_leaves_the_network_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    net = small_net()
    compile_network(net, "none")
    assert net.network._compiled_call_impl is None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("memory", ["checkpoint", "two_pass"])
def test_compiling_and_repeating_passes_exclude_each_other(memory: str) -> None:
    with pytest.raises(ConfigError, match=f"memory '{memory}' repeats forward passes"):
        small_config(memory=memory, compile="default")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_near_the_full_one(tmp_path: Path, precision: str) -> None:
    full, half = losses(tmp_path), losses(tmp_path, precision=precision)
    assert half == pytest.approx(full, rel=0.02)


def test_scale_of_half_precision_is_saved_and_continued(tmp_path: Path) -> None:
    config = small_config(precision="fp16")
    training = Training(small_job(config), RunFolder(tmp_path))
    training.stepper.scaler._init_scale = 2.0**20
    training.stepper.step(*draw(0))
    training.stepper.scaler.update(512.0)
    training.save(training.folder.last, "the last step")
    again = Training.resume(small_job(config), RunFolder(tmp_path))
    assert again.stepper.scaler.get_scale() == 512.0


def test_overflow_of_half_precision_skips_the_step_and_scales_less(tmp_path: Path) -> None:
    training = Training(small_job(small_config(precision="fp16")), RunFolder(tmp_path))
    training.stepper.scaler._init_scale = 2.0**120  # Any gradient overflows.
    before = {k: v.detach().clone() for k, v in training.job.net.named_parameters()}
    training.stepper.step(*draw(0))
    after = dict(training.job.net.named_parameters())
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert training.stepper.scaler.get_scale() == 2.0**119


def test_checkpointing_one_shared_batchnorm_is_refused() -> None:
    with pytest.raises(ConfigError, match="what one shared BatchNorm learns; choose memory"):
        small_config(memory="checkpoint", batchnorm="shared")
