"""What files of weights hold: layouts of training scripts, folders, checkpoints; nothing is run."""

from __future__ import annotations

import argparse
import collections
import datetime
import json
import os
import pathlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from rsseg.common.checkpoint import read_checkpoint
from rsseg.common.pretrained_folder import write_folder
from rsseg.common.state_files import read_wrapped
from rsseg.weights.source import open_weights, recorded
from tests.helpers.hostile import Program
from tests.helpers.small_checkpoint import PREPROCESSING, write_checkpoint

STATE = {"conv.weight": torch.ones(2, 3)}
AVERAGE = {"conv.weight": torch.zeros(2, 3)}
# What training scripts write beside the weights.
BESIDE: dict[str, Any] = {
    "args": argparse.Namespace(lr=0.1, out=pathlib.Path("/runs/1"), sizes=[1, 2], device=None),
    "best": np.float64(71.5),
    "top": np.float32(0.5),
    "rng": np.random.default_rng(0).bit_generator.state,
    "old rng": np.random.RandomState(0).get_state(),
    "arrays": [np.zeros((2, 3), np.float16), np.array(["a"]), np.array([None, 1], object)],
    "epoch": np.int64(3),
    "done": np.bool_(True),
    "path": pathlib.PureWindowsPath("c:/runs"),
    "when": datetime.datetime(2026, 1, 2, 3),
    "took": datetime.timedelta(seconds=5),
    "zone": datetime.UTC,
    "history": collections.defaultdict(list, {"loss": [1.0, 0.5]}),
    "counts": collections.Counter("aab"),
    "order": collections.OrderedDict(a=1),
    "version": torch.__version__,
    "device": torch.device("cpu"),
}


@pytest.mark.parametrize("key", BESIDE)
def test_value_beside_the_weights_is_read(tmp_path: Path, key: str) -> None:
    path = tmp_path / "w.pth"
    torch.save({"state_dict": STATE, key: BESIDE[key]}, path)
    state, wrapper = read_wrapped(path)
    assert torch.equal(state["conv.weight"], STATE["conv.weight"])
    assert wrapper == "state_dict"


LAYOUTS: dict[str, tuple[dict[str, Any], str]] = {
    "timm": (
        {"epoch": 3, "arch": "resnet18", "state_dict": STATE, "state_dict_ema": AVERAGE, **BESIDE},
        "state_dict_ema",
    ),
    "torchvision": (
        {"model": STATE, "optimizer": {"state": {}}, "model_ema": AVERAGE, "scaler": None},
        "model_ema",
    ),
    "lightning": (
        {
            "state_dict": STATE,
            "pytorch-lightning_version": "2.4.0",
            "hyper_parameters": {"lr": 0.1},
            "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5)}},
            "loops": {"fit_loop": {"state_dict": {}}},
        },
        "state_dict",
    ),
    "two wrappers": ({"checkpoint": {"model_state_dict": STATE}}, "checkpoint.model_state_dict"),
    "settings of an average": (
        {"ema": {"decay": 0.99}, "model_ema": {"model": {}}, "state_dict": STATE},
        "state_dict",
    ),
    "none": (dict(STATE), ""),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_of_a_training_script_is_read(tmp_path: Path, layout: str) -> None:
    content, key = LAYOUTS[layout]
    torch.save(content, tmp_path / "w.pth")
    weights = open_weights(str(tmp_path / "w.pth"))
    expected = AVERAGE if key.endswith("ema") else STATE
    assert torch.equal(weights.state["conv.weight"], expected["conv.weight"])
    assert weights.name == f"{tmp_path / 'w.pth'}{f'[{key}]' if key else ''}"


class System:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("order", [System, Program])
def test_program_beside_the_weights_is_refused_and_not_run(
    tmp_path: Path, order: Callable[[Path], object]
) -> None:
    torch.save({"state_dict": STATE, "args": order(tmp_path / "marker")}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"init: .*w\.pth cannot be read as a state dict"):
        open_weights(str(tmp_path / "w.pth"))
    assert not (tmp_path / "marker").exists()


def test_program_in_an_array_beside_the_weights_is_refused_and_not_run(tmp_path: Path) -> None:
    array = np.array([System(tmp_path / "marker")], object)
    torch.save({"state_dict": STATE, "rng": array}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"init: .*w\.pth cannot be read as a state dict"):
        open_weights(str(tmp_path / "w.pth"))
    assert not (tmp_path / "marker").exists()


def test_array_of_an_older_numpy_beside_the_weights_is_read(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    content = {"state_dict": STATE, "rng": np.arange(3)}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    assert b"numpy._core.multiarray" in whole
    path.write_bytes(whole.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert torch.equal(read_wrapped(path)[0]["conv.weight"], STATE["conv.weight"])


def test_whole_network_in_a_file_is_named(tmp_path: Path) -> None:
    torch.save({"model": torch.nn.Linear(1, 1)}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"none of it was run \(torch\.nn\.modules\.linear"):
        open_weights(str(tmp_path / "w.pth"))


def test_folder_of_timm_brings_its_record(tmp_path: Path) -> None:
    model = timm.create_model("tf_efficientnet_lite0", num_classes=3)
    model.pretrained_cfg["mean"] = (0.1, 0.2, 0.3)
    timm.models.save_for_hf(model, tmp_path)
    weights = open_weights(str(tmp_path))
    assert weights.state.keys() == model.state_dict().keys()
    assert weights.record is not None
    assert weights.record.mean == (0.1, 0.2, 0.3)
    assert weights.record.std == (0.5, 0.5, 0.5)
    assert recorded(str(tmp_path), key="init") == weights.record


def test_checkpoint_brings_its_preprocessing_and_classes(tmp_path: Path) -> None:
    weights = open_weights(str(write_checkpoint(tmp_path / "last.pt")))
    assert weights.record is not None
    assert list(weights.record.mean) == PREPROCESSING["mean"]
    assert weights.classes == ("church", "tench", "golf ball")


def test_folder_of_a_hub_is_a_checkpoint(tmp_path: Path) -> None:
    content = read_checkpoint(write_checkpoint(tmp_path / "last.pt"))
    write_folder(tmp_path, content["metadata"], content["net"])
    weights, same = (open_weights(str(path)) for path in (tmp_path, tmp_path / "last.pt"))
    assert weights.classes == same.classes
    assert weights.record is not None
    assert same.record is not None
    assert weights.record.mean == same.record.mean
    assert all(torch.equal(value, same.state[key]) for key, value in weights.state.items())


def photo(path: Path) -> None:
    path.write_bytes(b"\xff\xd8\xff\xe0 a photo")


def pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n")


def old(state: dict[str, torch.Tensor], path: Path) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=False)


def cut(write: Callable[[dict[str, torch.Tensor], Path], None], path: Path) -> None:
    write({"weight": torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[:-500])


def run(path: Path) -> None:
    path.mkdir()
    write_checkpoint(path / "last.pt")


def sharded(path: Path) -> None:
    path.mkdir()
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {}}))


def without_weights(path: Path) -> None:
    path.mkdir()
    (path / "config.json").write_text("{}")


WRONG: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "missing": ("nowhere.pth", lambda path: None, "there is no file .*nowhere.pth.*; give a"),
    "photo": ("photo.jpg", photo, r"jpg cannot be read as a state dict: it is a JPEG; give a"),
    "text": ("w.pth", lambda path: path.write_text("é" * 5000), "it is a text file; give a"),
    "text as ONNX": ("w.onnx", lambda path: path.write_text("weights"), "it is a text file; give"),
    "pointer": ("w.pth", pointer, "it is a pointer of Git LFS; fetch the file itself with"),
    "cut": ("w.pth", partial(cut, torch.save), "it is cut short; give a"),
    "cut of the old form": ("w.pth", partial(cut, old), "it is cut short; give a"),
    "cut safetensors": ("w.safetensors", partial(cut, save_file), "it is cut short, or damaged"),
    "empty": ("w.pth", lambda path: path.write_bytes(b""), "w.pth is empty; write it again"),
    "run": ("run", run, r"that is a run; give .*last\.pt"),
    "folder": ("folder", without_weights, r"holds no model\.safetensors.*; give a checkpoint"),
    "shards": ("folder", sharded, "its weights lie in several files"),
    "list": ("w.pth", lambda path: torch.save([1], path), "must hold a state dict.*; give a"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_are_no_weights_is_named_with_a_remedy(tmp_path: Path, kind: str) -> None:
    name, write, message = WRONG[kind]
    write(tmp_path / name)
    with pytest.raises(ValueError, match=rf"(?s)^init: .*{message}"):
        open_weights(str(tmp_path / name))


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "w.safetensors")
    assert torch.equal(
        open_weights(str(tmp_path / "w.safetensors")).state["conv.weight"], STATE["conv.weight"]
    )
