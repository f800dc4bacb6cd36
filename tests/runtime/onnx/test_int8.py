"""Facts about rsseg/runtime/onnx/int8.py: integers once, scales for each resolution."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from PIL import Image as Pictures
from torch import nn

from rsseg import SwitchableNet
from rsseg.cli import main as cli
from rsseg.images.preprocessing import Preprocessing
from rsseg.quantization.convert import quantize
from rsseg.runtime.onnx.calibration import CalibrationViews, calibration_images
from rsseg.runtime.onnx.export import Export, runner, write, write_integers
from rsseg.runtime.onnx.int8 import check_floats
from rsseg.runtime.opening import open_executor
from rsseg.runtime.predictor import Predictor
from rsseg.switchable.convert import switchable_layers
from rsseg.switchable.norms import NORMS
from tests.helpers.small_checkpoint import write_checkpoint
from tests.helpers.small_exported import description, log_of_opening, write_clouds
from tests.helpers.small_networks import at, randomise
from tests.runtime.onnx.test_norms import Norms, trained

SIDES = (64, 32)


def network() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU()),
        *(nn.Conv2d(24, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 3)),
    )


def small(change: Callable[[nn.Sequential], object] = lambda _: None) -> SwitchableNet:
    torch.manual_seed(0)
    made = network()
    net = SwitchableNet(made, SIDES)
    randomise(net)
    change(made)
    return net.eval()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clouds(tmp_path_factory.mktemp("images"))


def written(net: SwitchableNet, images: Path, out: Path, **values: Any) -> Export:
    views = CalibrationViews(calibration_images(images), Preprocessing())
    return write_integers(net, description(**values), out, views)


@pytest.fixture(scope="module")
def export(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Export:
    return written(small(), images, tmp_path_factory.mktemp("int8") / "small.onnx")


def network_of(net: SwitchableNet) -> nn.Sequential:
    assert isinstance(net.network, nn.Sequential)
    return net.network


def graphs(graph: Any) -> list[Any]:
    """A graph and all inside it."""
    inner = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    return [graph, *(each for one in inner for each in graphs(one))]


def integers(path: Path) -> list[tuple[int, ...]]:
    """Shapes of the integer weights in a file, those in branches included."""
    values = [v for g in graphs(onnx.load(path).graph) for v in g.initializer]
    return [
        tuple(v.dims) for v in values if v.data_type == onnx.TensorProto.INT8 and len(v.dims) > 1
    ]


def test_integer_weights_of_all_resolutions_are_in_the_file_once(export: Export) -> None:
    assert sorted(integers(export.path)) == [(3, 32), (24, 3, 3, 3), (32, 24, 3, 3)]


def test_file_opens_without_a_warning(export: Export, capfd: pytest.CaptureFixture[str]) -> None:
    assert log_of_opening(export.path, capfd) == ""


def test_integers_are_the_rounded_weights_of_each_channel(export: Export) -> None:
    values = {v.name: v for v in onnx.load(export.path).graph.initializer}
    for name, layer in (("0.weight", 0), ("3.weight", 3)):
        convolution = network_of(small())[layer]
        assert isinstance(convolution, nn.Conv2d)
        weight = convolution.weight.detach().flatten(1).numpy()
        expected = weight / (np.abs(weight).max(axis=1, keepdims=True) / 127)
        stored = numpy_helper.to_array(values[f"{name}_quantized"]).reshape(expected.shape)
        # Gammas are positive here; a value between two integers may go to either.
        assert np.abs(stored - expected).max() < 0.502


def test_logits_are_near_those_of_pytorch_at_each_resolution(export: Export) -> None:
    assert export.description.bits == 8
    assert [each.resolution for each in export.agreements] == [64, 32]
    for each in export.agreements:
        assert each.largest < 0.03 * each.logits


def test_runtime_computes_convolutions_of_all_branches_in_integers(
    export: Export, tmp_path: Path
) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(export.path), options, providers=["CPUExecutionProvider"])
    model = onnx.load(tmp_path / "optimised.onnx")
    kinds = Counter(node.op_type for graph in graphs(model.graph) for node in graph.node)
    assert kinds["QLinearConv"] == 4
    assert not kinds["Conv"]


@pytest.mark.parametrize("executor", ["onnxruntime", "openvino"])
def test_predictor_takes_the_file_as_any_other(export: Export, executor: str) -> None:
    predictor = Predictor.open(export.path, executor, threads=1)
    assert predictor.resolutions == SIDES
    image = np.full((40, 50, 3), 128, np.uint8)
    net, views = small(), Preprocessing()
    for side in SIDES:
        view = views.normalise(views.view(image, side))[None]
        with torch.no_grad():
            expected = net.predict(view, side).numpy()[0]
        np.testing.assert_allclose(predictor.predict(image, side).logits, expected, atol=0.05)


def test_resolution_between_takes_the_scales_of_the_nearest(export: Export) -> None:
    run, image = runner(export.path), np.zeros((1, 3, 64, 64), np.float32)
    assert export.description.unseen == "nearest"
    # Constant images: whatever the size, only the set that is chosen makes a difference.
    sizes = {side: run(image[..., :side, :side])[0] for side in (32, 40, 64)}
    assert np.abs(sizes[40] - sizes[32]).max() < np.abs(sizes[64] - sizes[32]).max()
    with pytest.raises(ValueError, match="by the rule 'nearest' that it was exported with"):
        open_executor(export.path, unseen="interpolate")


def negative(made: nn.Sequential) -> None:
    with torch.no_grad():
        at(made, 1, "32").weight[::2] *= -1


def zero(made: nn.Sequential) -> None:
    with torch.no_grad():
        at(made, 1, "32").weight[3] = 0


@pytest.mark.parametrize(("change", "copies"), [(negative, 1), (zero, 2)])
def test_sign_of_gamma_goes_into_the_scale_and_a_zero_into_a_copy(
    change: Callable[[nn.Sequential], object],
    copies: int,
    images: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    export = written(small(change), images, tmp_path / "small.onnx")
    assert log_of_opening(export.path, capfd) == ""
    assert integers(export.path).count((24, 3, 3, 3)) == copies
    for each in export.agreements:
        assert each.largest < 0.03 * each.logits


def test_file_of_one_resolution_has_no_branches(
    images: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    export = written(small(), images, tmp_path / "one.onnx", layout="one", resolution=32)
    assert log_of_opening(export.path, capfd) == ""
    model = onnx.load(export.path)
    assert len(graphs(model.graph)) == 1
    assert export.description.unseen == "interpolate"
    assert [each.resolution for each in export.agreements] == [32]


def test_ranges_of_a_resolution_are_those_of_its_own_views(images: Path, tmp_path: Path) -> None:
    """The scale of the input, at which nothing else can differ, follows from the views."""
    views = CalibrationViews(calibration_images(images), Preprocessing())
    scales = []
    for side in SIDES:
        export = written(small(), images, tmp_path / f"{side}.onnx", layout="one", resolution=side)
        model = onnx.load(export.path)
        (first,) = [n for n in model.graph.node if n.input[0] == "images"]
        values = {v.name: numpy_helper.to_array(v) for v in model.graph.initializer}
        scales.append(float(values[first.input[1]]))
        batch: NDArray[np.float32] = np.concatenate(list(views.batches(side)))
        expected = (max(batch.max(), 0) - min(batch.min(), 0)) / 255
        assert scales[-1] == pytest.approx(expected, rel=1e-4)
    assert scales[0] != scales[1]


# What is refused.


def test_network_with_learnt_levels_of_activations_is_refused() -> None:
    check_floats(SwitchableNet(quantize(network(), weights=2, activations=32), SIDES))
    with pytest.raises(ValueError, match=r"learnt levels .* export it without --int8"):
        check_floats(SwitchableNet(quantize(network(), weights=2, activations=2), SIDES))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--int8"], "--int8 needs --calibrate DIR"),
        (["--calibrate", "."], "--calibrate is for files of 8 bits"),
        (["--int8", "--calibrate", "."], "there is no image in"),
        (["--int8", "--calibrate", "nowhere"], "nowhere, which is not a folder; give a folder"),
        (["--int8", "--calibrate", "few"], "with 1 image in few, expected at least 8"),
        (["--int8", "--calibrate", ".", "--compact"], "leave --compact out"),
        (["--int8", "--calibrate", ".", "--tolerance", "1"], "--tolerance is for files of floats"),
    ],
)
def test_what_is_wrong_is_said_before_the_network_is_loaded(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    if "few" in options:
        Path("few").mkdir()
        Pictures.new("RGB", (40, 40)).save("few/one.png")
    assert cli.main(["export", "none.pt", "--out", "x.onnx", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.slow
@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_command_writes_a_file_below_half_of_the_floats(
    task: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_checkpoint(tmp_path / "net.pt", task)
    for name, options in (("floats", []), ("int8", ["--int8", "--calibrate", str(images)])):
        assert (
            cli.main(["export", str(source), "--out", str(tmp_path / f"{name}.onnx"), *options])
            == 0
        )
    assert "64: same class as PyTorch for " in capsys.readouterr().out
    floats, int8 = ((tmp_path / f"{name}.onnx").stat().st_size for name in ("floats", "int8"))
    assert int8 < 0.5 * floats


# Networks with norms of other kinds.


def in_floats(graph: Any) -> Counter[str]:
    """Kinds of the nodes with an input that is not rounded, constants and integers left out."""
    writers = {name: node.op_type for node in graph.node for name in node.output}
    return Counter(
        node.op_type
        for node in graph.node
        if node.op_type in ("Add", "Conv", "Gemm", "LayerNormalization", "MatMul", "Softmax")
        and any(writers.get(name, "DequantizeLinear") != "DequantizeLinear" for name in node.input)
    )


def with_norms(name: str) -> SwitchableNet:
    """A network of timm with other values in each set."""
    torch.manual_seed(0)
    net = SwitchableNet(timm.create_model(name, num_classes=3), (96, 64), norms=NORMS)
    for layer in switchable_layers(net):
        for tensor in layer.state_dict().values():
            tensor.add_(0.1 * torch.randn_like(tensor))
    return net.eval()


def test_norms_of_each_image_stay_in_floats_and_weights_do_not(
    images: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    export = written(trained(Norms()), images, tmp_path / "norms.onnx")
    assert log_of_opening(export.path, capfd) == ""
    model = onnx.load(export.path)
    assert "Layers with weights have 8 bits" in model.doc_string
    assert "Norms, attention, activation functions and sums are in floats." in model.doc_string
    branches = [g for g in graphs(model.graph) if any(n.op_type == "Gemm" for n in g.node)]
    assert len(branches) == 2
    for branch in branches:
        kinds = in_floats(branch)
        assert kinds["LayerNormalization"]
        assert not kinds["Conv"] + kinds["Gemm"] + kinds["MatMul"]
    assert len(integers(export.path)) == 4  # Two convolutions, two linear layers.
    for each in export.agreements:
        assert each.largest < 0.03 * each.logits


def test_file_of_a_network_with_batchnorm_names_no_exceptions(export: Export) -> None:
    assert "Weights and activations have 8 bits" in onnx.load(export.path).doc_string


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_convnext", "test_vit"])
def test_network_with_layernorm_answers_as_in_floats(
    name: str, images: Path, tmp_path: Path
) -> None:
    net = with_norms(name)
    told = {"resolutions": (96, 64)}
    write(net, description(**told), tmp_path / "floats.onnx")
    export = written(net, images, tmp_path / "int8.onnx", **told)
    # Private gamma and beta, and the positions of the ViT, are floats: most of what is left.
    assert export.size < 0.35 * (tmp_path / "floats.onnx").stat().st_size
    for each in export.agreements:
        assert each.same == 1
        assert each.largest < 0.1 * each.logits  # All in 8 bits: 0.45 for the ViT.
    products = Counter[str]()
    for graph in graphs(onnx.load(export.path).graph):
        products += in_floats(graph)
    # Of two activations: two in each of six blocks, in two branches.
    assert products["MatMul"] == (24 if name == "test_vit" else 0)
    assert not products["Conv"] + products["Gemm"]
