"""Packed networks: K bits for each weight in the file, and the very network out of it again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from rsseg import SwitchableNet, interpolate_set, load_checkpoint
from rsseg.classifiers.build import build_classifier
from rsseg.cli import main as cli
from rsseg.common.checkpoint import CheckpointError, write_checkpoint
from rsseg.quantization.convert import quantized_convolutions
from rsseg.quantization.lqnets import WeightQuantizer
from rsseg.quantization.lsq import LearnedStepQuantizer
from rsseg.quantization.packing import (
    load_packed_state,
    pack_numbers,
    packed_size,
    packed_state,
    save_packed,
    stored_sizes,
    unpack_numbers,
)
from rsseg.runtime.predictor import Predictor

SIDES = [48, 32]


def model(**quantization: Any) -> dict[str, Any]:
    options = {"name": "preact_resnet18", "classes": 3, "options": {"width": 8}}
    return {**options, "quantization": {"weights": 2, "activations": 2, **quantization}}


def made(seed: int = 0, **quantization: Any) -> SwitchableNet:
    """Build a network whose levels have moved."""
    torch.manual_seed(seed)
    net = SwitchableNet(build_classifier(**model(**quantization)), SIDES)
    net.train()
    for _ in range(2):
        net([torch.randn(2, 3, side, side) for side in SIDES])
    return net.eval()


def metadata(**quantization: Any) -> dict[str, Any]:
    return {
        "task": "classification",
        "model": model(**quantization),
        "resolutions": SIDES,
        "batchnorm": "private",
        "preprocessing": {"fit": "crop"},
        "classes": ["a", "b", "c"],
    }


@given(numbers=st.lists(st.integers(0, 15)), bits=st.integers(1, 4))
@settings(max_examples=200, deadline=None)
def test_numbers_come_back_and_take_their_bits(numbers: list[int], bits: int) -> None:
    given = torch.tensor([n % 2**bits for n in numbers], dtype=torch.int64)
    packed = pack_numbers(given, bits)
    assert packed.dtype == torch.uint8
    assert len(packed) == -(-len(numbers) * bits // 8)
    assert torch.equal(unpack_numbers(packed, bits, len(numbers)), given)


def test_bytes_of_another_number_of_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="5 numbers of 2 bits take 2 bytes"):
        unpack_numbers(torch.zeros(1, dtype=torch.uint8), 2, 5)


@pytest.mark.parametrize("basis", ["largest_only", "private"])
def test_network_with_other_levels_of_its_activations_is_packed_as_well(basis: str) -> None:
    net, other = made(basis=basis), made(1, basis=basis)
    load_packed_state(other, packed_state(net))
    for side in SIDES:
        images = torch.randn(2, 3, side, side)
        assert torch.equal(other.predict(images), net.predict(images))


@pytest.mark.parametrize(
    ("kind", "bits"),
    [*(("lq", bits) for bits in (1, 2, 3, 4)), *(("lsq", bits) for bits in (2, 3, 4))],
)
def test_packed_network_comes_back_to_the_bit(kind: str, bits: int) -> None:
    options: dict[str, Any] = {"weights": bits, "quantizer": kind}
    net, other = made(**options), made(1, **options)
    load_packed_state(other, packed_state(net))
    layers = dict(quantized_convolutions(other))
    for name, layer in quantized_convolutions(net):
        assert torch.equal(layers[name].quantized_weight(), layer.quantized_weight())
    for side in SIDES:
        images = torch.randn(2, 3, side, side)
        assert torch.equal(other.predict(images), net.predict(images))


def test_file_is_read_as_a_checkpoint_and_gives_the_same_logits(tmp_path: Path) -> None:
    net, out = made(), tmp_path / "net.safetensors"
    size = save_packed(net, metadata(), out)
    loaded, preprocessing, read = load_checkpoint(out)
    assert preprocessing.fit == "crop"
    assert read.classes == ("a", "b", "c")
    assert not loaded.training
    for side in (*SIDES, 40):
        images = torch.randn(2, 3, side, side)
        assert torch.equal(loaded.predict(images), net.predict(images))
    weights = sum(layer.weight.numel() for _, layer in quantized_convolutions(net))
    assert (size.weights, size.codes) == (weights, weights // 4)
    assert size.bits_per_weight == 2 + 8 * size.bases / weights
    tensors = sum(v.numel() * v.element_size() for v in load_file(out).values())
    assert size.total == tensors <= out.stat().st_size
    assert packed_size(net) == size


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_size_told_beforehand_is_that_of_the_packed_network(bits: int) -> None:
    plain = SwitchableNet(build_classifier(name="preact_resnet18", classes=3), SIDES)
    options: dict[str, Any] = {"name": "preact_resnet18", "classes": 3}
    quantization = {"weights": bits, "activations": 32}
    net = SwitchableNet(build_classifier(**options, quantization=quantization), SIDES).eval()
    assert stored_sizes(plain)[str(bits)] == packed_size(net).total
    assert stored_sizes(net) == stored_sizes(plain)


def test_network_that_cannot_be_packed_is_refused(tmp_path: Path) -> None:
    plain = SwitchableNet(build_classifier(name="resnet18", classes=3), SIDES)
    with pytest.raises(ValueError, match="no weight of the network is quantised"):
        packed_state(plain)
    added = made()
    interpolate_set(added.network, 40)
    with pytest.raises(ValueError, match="holds added BatchNorm sets"):
        save_packed(added, metadata(), tmp_path / "net.safetensors")
    close = made()
    layer = next(iter(quantized_convolutions(close)))[1]
    quantizer = cast(WeightQuantizer, layer.weight_quantizer)
    nn.init.normal_(layer.weight)
    quantizer.basis[:, 0], quantizer.basis[:, 1] = 2e-8, 0.5
    with pytest.raises(ValueError, match="too close to be told apart"):
        save_packed(close, metadata(), tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match=r"must end in \.safetensors"):
        save_packed(made(), metadata(), tmp_path / "net.pt")
    spoiled = made()
    next(iter(quantized_convolutions(spoiled)))[1].weight.data.fill_(torch.nan)
    with pytest.raises(ValueError, match="are not finite, or its levels"):
        save_packed(spoiled, metadata(), tmp_path / "net.safetensors")
    assert not list(tmp_path.iterdir())


def test_file_that_exists_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    out = tmp_path / "net.safetensors"
    out.write_text("mine")
    with pytest.raises(ValueError, match="exists; choose another name"):
        save_packed(made(), metadata(), out)
    assert out.read_text() == "mine"
    save_packed(made(), metadata(), out, overwrite=True)
    assert load_checkpoint(out)


@given(place=st.integers(0, 2**31), byte=st.integers(1, 255))
@settings(max_examples=30, deadline=None)
def test_file_with_any_damaged_byte_is_refused(
    place: int, byte: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "net.safetensors"
    content = bytearray(_whole(tmp_path_factory))
    content[place % len(content)] ^= byte
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"damaged|is not a packed network"):
        load_checkpoint(path)


_KEPT: list[bytes] = []


def _whole(factory: pytest.TempPathFactory) -> bytes:
    if not _KEPT:
        path = factory.mktemp("whole") / "net.safetensors"
        save_packed(made(), metadata(), path)
        _KEPT.append(path.read_bytes())
    return _KEPT[0]


def test_packed_file_is_opened_by_predictors(tmp_path: Path) -> None:
    net, out = made(), tmp_path / "net.safetensors"
    save_packed(net, metadata(), out)
    predictor = Predictor.open(out)
    assert (predictor.classes, predictor.resolutions) == (("a", "b", "c"), (48, 32))
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    expected = net.predict(torch.from_numpy(images)).detach().numpy()
    np.testing.assert_allclose(predictor.executor.logits(images, 32), expected, atol=1e-5)


def test_kind_of_a_tensor_that_was_changed_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_packed(made(), metadata(), path)
    content = path.read_bytes()
    assert b'"dtype":"F32"' in content
    path.write_bytes(content.replace(b'"dtype":"F32"', b'"dtype":"I32"', 1))
    with pytest.raises(CheckpointError, match="its content is not what was written"):
        load_checkpoint(path)


def test_other_safetensors_and_missing_files_are_told(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="is not a packed network of rsseg"):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load_checkpoint(tmp_path / "nowhere.safetensors")


def test_command_packs_a_checkpoint_and_profile_reads_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, out = tmp_path / "last.pt", tmp_path / "net.safetensors"
    write_checkpoint(checkpoint, {"metadata": metadata(), "net": made().state_dict()})
    assert cli.main(["pack", str(checkpoint), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "bits as stored" in printed
    assert cli.main(["profile", str(out), "--json"]) == 0
    counted = json.loads(capsys.readouterr().out)
    assert counted["bytes"]["2"] < counted["bytes"]["32"] / 3
    assert cli.main(["pack", str(checkpoint), "--out", str(out)]) == 2
    assert "exists; choose another name" in capsys.readouterr().err


@pytest.mark.parametrize("step", [0.0, -0.05])
def test_packed_network_of_steps_that_are_not_positive_answers_alike(step: float) -> None:
    net, other = made(quantizer="lsq"), made(1, quantizer="lsq")
    for layer in net.modules():
        if isinstance(layer, LearnedStepQuantizer):
            layer.step.data.fill_(step)
    load_packed_state(other, packed_state(net))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(other.predict(images), net.predict(images))
