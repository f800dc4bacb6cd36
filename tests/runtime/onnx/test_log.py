"""Facts about exported files as runtimes open them: without a warning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from torch import nn

from rsseg.images.preprocessing import Preprocessing
from rsseg.runtime.onnx.calibration import CalibrationViews, calibration_images
from rsseg.runtime.onnx.export import write, write_integers
from rsseg.switchable.net import SwitchableNet
from tests.helpers.small_exported import description, small_net, write_clouds
from tests.helpers.small_networks import at
from tests.runtime.onnx.test_norms import Norms, trained


def with_zero() -> SwitchableNet:
    """A gamma of 0 at one resolution: integers of its own in a file of 8 bits."""
    net = small_net()
    assert isinstance(net.network, nn.Sequential)
    at(net.network, 1, "32").weight.data[3] = 0
    return net


NETWORKS: dict[str, Callable[[], SwitchableNet]] = {
    "classifier": small_net,
    "segmenter": lambda: small_net(maps=True),
    "norms": lambda: trained(Norms()),
    "zero": with_zero,
}
ONE: dict[str, Any] = {"layout": "one", "resolution": 64}
KINDS: dict[str, dict[str, Any]] = {"all": {}, "compact": {}, "one": ONE}
INTEGERS: dict[str, dict[str, Any]] = {"all": {}, "one": ONE}


def log_of_opening(path: Path, capfd: pytest.CaptureFixture[str]) -> str:
    """What ONNX Runtime writes at its own log severity, from C++."""
    capfd.readouterr()
    onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return "".join(capfd.readouterr())


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("kind", KINDS)
def test_file_of_floats_opens_without_a_warning(
    network: str, kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.onnx"
    write(NETWORKS[network](), description(**KINDS[kind]), path, compact=kind == "compact")
    assert log_of_opening(path, capfd) == ""


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("kind", INTEGERS)
def test_file_of_8_bits_opens_without_a_warning(
    network: str, kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.onnx"
    views = CalibrationViews(calibration_images(write_clouds(tmp_path)), Preprocessing())
    write_integers(NETWORKS[network](), description(**INTEGERS[kind]), path, views)
    assert log_of_opening(path, capfd) == ""
