"""Weights and results from anywhere: tensors and numbers, or the file named; nothing is run."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from safetensors.torch import save_file
from torch import Tensor

from rsseg.analysis.correctness import read_answers
from rsseg.analysis.results import comparison_table, read_comparison
from rsseg.classifiers.build import build_classifier
from rsseg.classifiers.published import load_published
from rsseg.common.checkpoint import CheckpointError
from rsseg.common.state_files import read_state
from rsseg.common.yaml_files import read_yaml
from tests.classifiers.test_published import RESNET, hollow
from tests.helpers.hostile import Edit, Program, answer, attempts, damaged, edits

STATE = {
    "conv.weight": torch.arange(36.0).reshape(4, 1, 3, 3),
    "bn.running_mean": torch.ones(4, dtype=torch.float64),
    "bn.num_batches_tracked": torch.tensor(7),
}


def old(path: Path) -> None:
    torch.save(STATE, path, _use_new_zipfile_serialization=False)


FORMS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "zip": ("w.pth", lambda path: torch.save(STATE, path)),
    "old": ("w.pth", old),
    "safetensors": ("w.safetensors", lambda path: save_file(STATE, path)),
}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(first[key], second[key]) and first[key].dtype == second[key].dtype
        for key in first
    )


@pytest.mark.parametrize("form", FORMS)
@attempts(200)
@given(changes=edits())
def test_damaged_state_is_named_or_holds_tensors(
    tmp_path: Path, form: str, changes: list[Edit]
) -> None:
    name, write = FORMS[form]
    path = tmp_path / name
    write(path)
    path.write_bytes(damaged(path.read_bytes(), changes))
    state = answer(lambda: read_state(path), path)
    if state is not None:
        assert all(torch.zeros_like(value).shape == value.shape for value in state.values())
        assert form != "zip" or same(state, STATE)  # the other forms have no checksums


def test_no_flipped_bit_of_a_weight_is_read(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(STATE, path)
    whole = path.read_bytes()
    start = whole.index(STATE["conv.weight"].numpy().tobytes())
    for place in range(start, start + 36 * 4):
        path.write_bytes(damaged(whole, [("flip", place, bytes([place % 8]))]))
        with pytest.raises(ValueError, match=r"w\.pth cannot be read as a state dict"):
            read_state(path)


STRANGE: dict[str, Callable[[], Any]] = {
    "without memory": lambda: torch.zeros(3, device="meta"),
    "sparse": lambda: torch.zeros(3, 3).to_sparse(),
    "of complex numbers": lambda: torch.zeros(3, dtype=torch.complex64),
    "a number": lambda: 3,
    "nested": lambda: {"weight": torch.zeros(3)},
}


@pytest.mark.parametrize("kind", STRANGE)
def test_state_of_other_things_than_plain_tensors_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "w.pth"
    torch.save({**STATE, "strange": STRANGE[kind]()}, path)
    with pytest.raises(ValueError, match=r"w\.pth must hold a state dict \(names to tensors"):
        read_state(path)


def test_records_that_unpack_without_end_are_refused_before_they_do(tmp_path: Path) -> None:
    whole, path = tmp_path / "whole.pth", tmp_path / "w.pth"
    torch.save({"weight": torch.zeros(2**22)}, whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w", 8) as target:
        for record in source.infolist():
            target.writestr(record.filename, source.read(record))
    assert path.stat().st_size < 2**18
    with pytest.raises(ValueError, match=r"w\.pth cannot be read .*: its records are compressed"):
        read_state(path)


def header(text: str, content: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text.encode() + content


@pytest.mark.parametrize(
    "content",
    [
        b"",
        header("{}", length=2**63),
        header("{" * 100, length=10**9),
        header("[" * 10_000),
        header(
            '{"a": {"dtype": "F32", "shape": [1000000000000], "data_offsets": [0, 4]}}', b"1234"
        ),
        header(
            '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4000000000000]}}', b"1234"
        ),
        header('{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}', b"1234"),
        header('{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}', b"1234"),
    ],
)
def test_absurd_safetensors_header_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"w\.safetensors cannot be read as a state dict"):
        read_state(path)


@pytest.mark.parametrize("numbers", [10**12, 2**62])
def test_old_form_that_claims_too_many_numbers_is_refused(tmp_path: Path, numbers: int) -> None:
    path = tmp_path / "w.pth"
    torch.save({"w": torch.arange(12.0)}, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    claim = b"\x8a\x08" + numbers.to_bytes(8, "little")
    path.write_bytes(whole.replace(b"K\x0c", claim, 1))
    with pytest.raises(ValueError, match=r"w\.pth cannot be read as a state dict"):
        read_state(path)


def test_published_weights_that_claim_too_many_classes_take_no_room(tmp_path: Path) -> None:
    path = tmp_path / "model_best.pth.tar"
    for classes in (10**5 + 1, 10**12):
        state = hollow(RESNET)
        state["module.fc.module.weight"] = torch.zeros(()).expand(classes, 512)
        state["module.fc.module.bias"] = torch.zeros(()).expand(classes)
        torch.save({"state_dict": state}, path)
        with pytest.raises(
            CheckpointError, match=rf"pth\.tar does not hold .*\n.*\({classes}, 512"
        ):
            load_published(path)


def test_published_set_of_thousands_of_digits_is_none(tmp_path: Path) -> None:
    path = tmp_path / "model_best.pth.tar"
    torch.save({"state_dict": {f"bn1.bn_{'9' * 5000}.weight": torch.ones(64)}}, path)
    with pytest.raises(CheckpointError, match=r"model_best\.pth\.tar holds no private BatchNorm"):
        load_published(path)


def readers(path: Path) -> dict[str, Callable[[], object]]:
    return {
        "state": lambda: read_state(path),
        "weights": lambda: build_classifier(name="resnet18", classes=2, weights=str(path)),
        "published": lambda: load_published(path),
        "answers": lambda: read_answers(path.parent),
        "results": lambda: comparison_table(read_comparison([path])),
        "configuration": lambda: read_yaml(path),
    }


def array(order: Program, path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, np.array([order], dtype=object))


ORDERS: dict[str, Callable[[Program, Path], object]] = {
    "pickle": lambda order, path: path.write_bytes(pickle.dumps(order)),
    "new form": lambda order, path: torch.save({"state_dict": order}, path),
    "old form": lambda order, path: torch.save(order, path, _use_new_zipfile_serialization=False),
    "archive": lambda order, path: np.savez(path, names=np.array([order], dtype=object)),
    "array": array,
    "yaml": lambda order, path: path.write_text(
        f"a: !!python/object/apply:pathlib.Path.touch [{order.marker}]"
    ),
}


@pytest.mark.parametrize("form", ORDERS)
@pytest.mark.parametrize("reader", readers(Path()))
def test_program_in_a_file_is_not_run(tmp_path: Path, form: str, reader: str) -> None:
    path, marker = tmp_path / "correctness.npz", tmp_path / "marker"
    ORDERS[form](Program(marker), path)
    with pytest.raises((ValueError, OSError), match=r"correctness\.npz") as caught:
        readers(path)[reader]()
    assert not marker.exists()
    assert "weights_only" not in str(caught.value)


def test_program_runs_where_pickles_are_trusted(tmp_path: Path) -> None:
    """Else the test above would show nothing."""
    marker = tmp_path / "marker"
    pickle.loads(pickle.dumps(Program(marker)))
    assert marker.exists()
