"""Facts about exported files as runtimes open them: without a warning.

Here are those that other tests do not write; test_export, test_int8, test_model and test_norms look
at theirs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import nn

from rsseg.images.preprocessing import Preprocessing
from rsseg.runtime.onnx.calibration import CalibrationViews, calibration_images
from rsseg.runtime.onnx.export import write, write_integers
from rsseg.switchable.net import SwitchableNet
from tests.helpers.small_exported import description, log_of_opening, small_net, write_clouds
from tests.helpers.small_networks import at
from tests.runtime.onnx.test_norms import Norms, trained

ONE: dict[str, Any] = {"layout": "one", "resolution": 64}


def segmenter() -> SwitchableNet:
    """With a gamma of 0 at one resolution: integers of its own in a file of 8 bits."""
    net = small_net(maps=True)
    assert isinstance(net.network, nn.Sequential)
    at(net.network, 1, "32").weight.data[3] = 0
    return net


def norms() -> SwitchableNet:
    return trained(Norms())


@pytest.mark.parametrize(
    ("build", "values", "compact"),
    [(segmenter, {}, True), (segmenter, ONE, False), (norms, ONE, False)],
)
def test_file_of_floats_opens_without_a_warning(
    build: Any, values: Any, compact: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.onnx"
    write(build(), description(**values), path, compact=compact)
    assert log_of_opening(path, capfd) == ""


@pytest.mark.parametrize(("build", "values"), [(segmenter, {}), (segmenter, ONE), (norms, ONE)])
def test_file_of_8_bits_opens_without_a_warning(
    build: Any, values: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.onnx"
    views = CalibrationViews(calibration_images(write_clouds(tmp_path)), Preprocessing())
    write_integers(build(), description(**values), path, views)
    assert log_of_opening(path, capfd) == ""
