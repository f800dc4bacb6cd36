"""Facts about the executors in rsseg/runtime: each computes what the network does."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rsseg.runtime.executors import TorchExecutor
from rsseg.runtime.opening import EXECUTORS, natural_executor, open_executor
from rsseg.runtime.protocol import Executor, Views
from rsseg.switchable.net import SwitchableNet
from tests.helpers.processes import ROOT, environment
from tests.helpers.small_checkpoint import write_checkpoint
from tests.helpers.small_exported import description, small_net, write_onnx

EXPORTED = ("onnxruntime", "openvino")
# ExecuTorch programs have fixed shapes: tests/runtime/fixed_shapes.
ANY_SIZE = [name for name in EXECUTORS if name != "executorch"]


def opened(name: str, folder: Path, *, maps: bool = False) -> tuple[Executor, SwitchableNet]:
    net = small_net(maps=maps)
    if name == "torch":
        return TorchExecutor(net), net
    told = description(task="segmentation" if maps else "classification")
    path = write_onnx(folder / "all.onnx", net, told)
    return open_executor(path, name, threads=1)[0], net


def views(side: int, seed: int = 0, *, batch: int = 2, width: int | None = None) -> Views:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((batch, 3, side, width or side)).astype(np.float32)


@pytest.mark.parametrize("maps", [False, True])
@pytest.mark.parametrize("name", ANY_SIZE)
def test_logits_are_those_of_predict(name: str, maps: bool, tmp_path: Path) -> None:
    executor, net = opened(name, tmp_path, maps=maps)
    for side in (64, 32):
        images = views(side, width=side + 16)
        with torch.no_grad():
            expected = net.predict(torch.from_numpy(images), side).numpy()
        computed = executor.logits(images, side)
        assert computed.dtype == np.float32
        np.testing.assert_allclose(computed, expected, rtol=1e-5, atol=1e-5)
    assert executor.resolutions == (64, 32)
    assert executor.name == name


def hammer(call: Callable[[int], np.ndarray], sides: Sequence[int], rounds: int) -> None:
    """Call from one thread for each side at once; compare with what one thread alone gets."""
    alone = {side: call(side) for side in sides}
    barrier = threading.Barrier(len(sides))

    def work(side: int) -> bool:
        barrier.wait()
        return all(np.array_equal(call(side), alone[side]) for _ in range(rounds))

    with ThreadPoolExecutor(len(sides)) as pool:
        assert all(pool.map(work, sides))


@pytest.mark.parametrize("name", ANY_SIZE)
def test_threads_at_different_resolutions_get_what_one_alone_gets(
    name: str, tmp_path: Path
) -> None:
    executor, _ = opened(name, tmp_path)
    images = {side: views(side) for side in (64, 32)}
    hammer(lambda side: executor.logits(images[side], side), [64, 32, 64, 32], 300)


def test_threads_that_ask_for_untrained_resolutions_change_nothing_for_others() -> None:
    executor = TorchExecutor(small_net(), kept=2)  # Few: networks are made again and again.
    images = {side: views(side) for side in (64, 60, 52, 44, 40, 36, 32)}
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        hammer(lambda side: executor.logits(images[side], side), list(images), 60)
    finally:
        sys.setswitchinterval(interval)


def test_network_of_an_untrained_resolution_is_made_once_and_the_oldest_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net, made = small_net(), []

    def specialize(resolution: int) -> nn.Module:
        made.append(resolution)
        return SwitchableNet.specialize(net, resolution)

    monkeypatch.setattr(net, "specialize", specialize)
    executor = TorchExecutor(net, kept=2)
    for side in (48, 48, 40, 48, 36, 48, 40):
        executor.logits(views(side), side)
    assert made == [64, 32, 48, 40, 36, 40]


def test_untrained_resolution_uses_the_rule_of_the_network() -> None:
    net = small_net()
    net.unseen = "nearest"
    with torch.no_grad():
        expected: Tensor = net.predict(torch.from_numpy(views(40)), 40)
    assert np.array_equal(TorchExecutor(net).logits(views(40), 40), expected.numpy())


def test_executor_leaves_the_network_as_it_is() -> None:
    net = small_net().train()
    TorchExecutor(net).logits(views(40), 40)
    assert all(layer.training for layer in net.modules())
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert not any("40" in name for name in net.state_dict())


@pytest.mark.parametrize("name", ANY_SIZE)
def test_arrays_that_are_no_views_are_refused(name: str, tmp_path: Path) -> None:
    executor, _ = opened(name, tmp_path)
    images = views(32)
    wrong: Any
    for wrong in (images.astype(np.float64), images[0], images[:, :2], images[:0]):
        with pytest.raises(ValueError, match=r"float32, shape \(B, 3, h, w\), got"):
            executor.logits(wrong, 32)


@pytest.mark.parametrize("name", ANY_SIZE)
def test_read_only_and_strided_views_are_taken(name: str, tmp_path: Path) -> None:
    executor, _ = opened(name, tmp_path)
    images = views(32)
    flipped = np.ascontiguousarray(images[..., ::-1])
    flipped.flags.writeable = False
    assert np.array_equal(executor.logits(flipped, 32), executor.logits(images[..., ::-1], 32))


def test_network_that_cannot_take_a_size_says_so() -> None:
    net = small_net()
    with pytest.raises(ValueError, match="a whole number of pixels from 1 to 4096"):
        TorchExecutor(net).logits(views(32), 0)
    assert isinstance(net.network, nn.Sequential)
    net.network[3] = nn.MaxPool2d(20)
    with pytest.raises(ValueError, match="cannot predict at resolution 32, with views of 32x32"):
        TorchExecutor(net).logits(views(32), 32)


@pytest.mark.parametrize("name", EXPORTED)
def test_file_of_all_resolutions_takes_no_other_size_than_that_asked_for(
    name: str, tmp_path: Path
) -> None:
    executor, _ = opened(name, tmp_path)
    with pytest.raises(ValueError, match="shorter side is 32; expected resolution 64"):
        executor.logits(views(32), 64)


@pytest.mark.parametrize("name", EXPORTED)
def test_file_of_one_resolution_holds_that_one_alone(name: str, tmp_path: Path) -> None:
    net = small_net()
    told = description(layout="one", resolution=32)
    executor, read = open_executor(write_onnx(tmp_path / "32.onnx", net, told), name)
    assert read == told
    assert executor.resolutions == (32,)
    with torch.no_grad():
        expected = net.predict(torch.from_numpy(views(32)), 32).numpy()
    np.testing.assert_allclose(executor.logits(views(32), 32), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="holds resolution 32 alone, got 64"):
        executor.logits(views(64), 64)
    with pytest.raises(ValueError, match=r"takes views of shape \(None, 3, 32, 32\)"):
        executor.logits(views(48), 32)


@pytest.mark.parametrize("name", EXPORTED)
def test_foreign_and_damaged_files_are_named(name: str, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"no such thing")
    with pytest.raises(ValueError, match=r"damaged\.onnx is not an ONNX file, or is damaged"):
        open_executor(damaged, name)
    whole = write_onnx(tmp_path / "whole.onnx", small_net(), description()).read_bytes()
    damaged.write_bytes(whole.replace(b"AveragePool", b"BveragePool"))
    with pytest.raises(ValueError, match=r"damaged\.onnx is not an ONNX file that can be run"):
        open_executor(damaged, name)
    foreign = write_onnx(tmp_path / "foreign.onnx", small_net(), description(), key="other")
    with pytest.raises(ValueError, match=r"an ONNX file that `rsseg export` did not write; give"):
        open_executor(foreign, name)
    with pytest.raises(ValueError, match="no description; expected one that `rsseg export` wrote"):
        EXECUTORS[name].open(foreign, threads=1, device="cpu")
    with pytest.raises(
        FileNotFoundError, match=r"there is no file .*gone\.onnx; give a checkpoint"
    ):
        open_executor(tmp_path / "gone.onnx", name)


def test_what_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "all.onnx", small_net(), description())
    faults: list[tuple[dict[str, Any], str]] = [
        (
            {"name": "torch"},
            r"executor torch: .*all\.onnx is an exported file; give the checkpoint \(\.pt or",
        ),
        ({"name": "tensorrt"}, "unknown executor 'tensorrt'; expected one of torch, onnxruntime"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
        ({"device": "cuda"}, "runs on the CPU here, got device 'cuda'"),
    ]
    for arguments, message in faults:
        with pytest.raises(ValueError, match=message):
            open_executor(path, **arguments)
    checkpoint = write_checkpoint(tmp_path / "last.pt")
    with pytest.raises(
        ValueError, match=r"openvino: .* is a checkpoint; give an ONNX file of `rsseg export`"
    ):
        open_executor(checkpoint, "openvino")
    (tmp_path / "last.pth").write_text("text")
    with pytest.raises(
        ValueError, match=r"give a checkpoint \(\.pt or packed \.safetensors\), an ONNX file of"
    ):
        natural_executor(tmp_path / "last.pth")


@pytest.mark.parametrize(("name", "extra"), [("onnxruntime", "onnx"), ("openvino", "openvino")])
def test_executor_that_is_not_installed_is_named_with_its_extra(
    name: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_onnx(tmp_path / "all.onnx", small_net(), description())
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf"{name} is not installed; pip install 'rsseg\[{extra}"):
        open_executor(path, name)


CLOSED = """
import gc, signal, sys
from pathlib import Path
from rsseg.runtime.opening import open_executor
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
files = [open_executor(Path(path), "openvino", threads=1) for path in sys.argv[1:]]
while files:
    files.pop(0)
    gc.collect()
signal.raise_signal(signal.SIGUSR1)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="stacks for signals are those of Linux")
def test_process_takes_signals_after_files_were_closed_in_order(tmp_path: Path) -> None:
    """OpenVINO exchanges the stack for signals, and a second core left one that was gone."""
    pytest.importorskip("openvino")
    paths = [
        str(write_onnx(tmp_path / f"{name}.onnx", small_net(), description())) for name in "ab"
    ]
    done = subprocess.run(
        [sys.executable, "-c", CLOSED, *paths],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
