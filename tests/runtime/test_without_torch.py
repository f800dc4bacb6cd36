"""Facts about a process that predicts with an exported file: it computes the same without PyTorch.

PyTorch alone takes several times the memory of a small network.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pictures

from rsseg.images.photo import Photo
from rsseg.runtime.predictor import Predictor
from tests.helpers.processes import ROOT, environment
from tests.helpers.small_exported import description, small_net, write_onnx
from tests.helpers.small_service import drawn, encoded

TASKS = ("classification", "segmentation")
HEAVY = {"torch", "torchvision", "timm", "segmentation_models_pytorch", "torchmetrics"}
PREDICT = """
import sys
import numpy as np
from rsseg.images.photo import Photo
from rsseg.runtime.predictor import Predictor
predictor = Predictor.open(sys.argv[1], threads=1)
answers = {}
for resolution in predictor.resolutions:
    prediction = predictor.predict(Photo(open(sys.argv[2], "rb").read()), resolution)
    answers[f"logits{resolution}"] = prediction.logits
    if prediction.label_map is None:
        answers[f"answer{resolution}"] = prediction.probabilities
    else:
        answers[f"answer{resolution}"] = prediction.label_map
np.savez(sys.argv[3], **answers)
"""
SERVE = """
import sys
from pathlib import Path
from rsseg.runtime.serve.app import make_app
from rsseg.runtime.serve.request import RequestOptions
from rsseg.runtime.serve.server import Options, make_server, open_service
service = open_service(Path(sys.argv[1]), Options(threads=1, workers=1))
make_server(make_app(service))
content = open(sys.argv[2], "rb").read()
for form in service.predictor.head.formats:
    assert service.submit(content, RequestOptions(form)).result(60).content
service.close()
"""
COMMAND = """
import sys
from rsseg.cli.main import main
assert main(["predict", sys.argv[1], sys.argv[2], "--out", sys.argv[3]]) == 0
"""


@pytest.fixture(params=TASKS)
def network(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    told = description(task=request.param)
    net = small_net(maps=request.param == "segmentation")
    return write_onnx(tmp_path / "net.onnx", net, told)


def loaded(code: str, *arguments: Path) -> set[str]:
    """Return the packages that a fresh interpreter has loaded after running some code."""
    tail = "\nimport sys\nprint('\\n' + ' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code + tail, *map(str, arguments)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_answers_are_those_of_a_process_with_pytorch(
    network: Path, tmp_path: Path, form: str
) -> None:
    photo = tmp_path / "photo"
    photo.write_bytes(encoded(form, drawn(167, 251)))
    assert not loaded(PREDICT, network, photo, tmp_path / "answers.npz") & HEAVY
    answers = np.load(tmp_path / "answers.npz")
    here = Predictor.open(network, threads=1)
    for resolution in here.resolutions:
        prediction = here.predict(Photo.open(photo), resolution)
        np.testing.assert_allclose(answers[f"logits{resolution}"], prediction.logits, atol=1e-4)
        answer = answers[f"answer{resolution}"]
        if prediction.label_map is None:
            np.testing.assert_allclose(answer, prediction.probabilities, atol=1e-5)
        else:
            assert (answer != prediction.label_map).mean() < 1e-3


def test_service_loads_no_pytorch(network: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(encoded("JPEG", drawn(167, 251)))
    assert not loaded(SERVE, network, photo) & HEAVY


def test_command_predicts_without_pytorch(network: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    Pictures.fromarray(drawn()).save(photo)
    assert not loaded(COMMAND, network, photo, tmp_path / "out") & HEAVY
