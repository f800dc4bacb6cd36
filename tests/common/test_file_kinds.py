"""Facts about rsseg/common/file_kinds.py: what a file is, and that every command says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, save_model
from PIL import Image as Pictures
from safetensors.torch import save_file

from rsseg.cli import main as cli
from rsseg.common.checkpoint import CheckpointError, read_checkpoint
from rsseg.common.file_kinds import (
    CHECKPOINTS,
    NETWORKS,
    FileKind,
    file_kind,
    wrong_kind_message,
)
from rsseg.heads import head_of
from rsseg.load import load_checkpoint
from rsseg.quantization.packing import save_packed
from rsseg.switchable.net import SwitchableNet
from tests.helpers.small_checkpoint import write_checkpoint
from tests.helpers.small_exported import description, small_net, write_onnx

FILES = {
    "last.pt": FileKind.CHECKPOINT,
    "packed.safetensors": FileKind.PACKED,
    "net.onnx": FileKind.EXPORTED,
    "net.pte": FileKind.EXECUTORCH,
    "models": FileKind.OPENVINO,
    "net.pt2": FileKind.PROGRAM,
    "model_best.pth.tar": FileKind.PUBLISHED,
    "old.pth.tar": FileKind.PUBLISHED,
    "weights.safetensors": FileKind.WEIGHTS,
    "weights.pth": FileKind.WEIGHTS,
    "foreign.onnx": FileKind.OTHER_ONNX,
    "other.onnx": FileKind.OTHER_ONNX,
    "cut.onnx": FileKind.OTHER,
    "notes.txt": FileKind.OTHER,
    "photo.png": FileKind.OTHER,
    "empty.pt": FileKind.EMPTY,
    "run": FileKind.FOLDER,
    "gone.pt": FileKind.MISSING,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of each kind."""
    root = tmp_path_factory.mktemp("kinds")
    write_checkpoint(root / "last.pt")
    _write_packed(root / "packed.safetensors")
    write_onnx(root / "net.onnx", small_net(), description())
    write_onnx(root / "foreign.onnx", small_net(), description(), key="other")
    (root / "cut.onnx").write_bytes((root / "net.onnx").read_bytes()[:-9])
    _write_other_onnx(root / "other.onnx")
    program = torch.export.export(torch.nn.ReLU(), (torch.zeros(2),))
    torch.export.save(program, root / "net.pt2")
    published = {"epoch": 9, "state_dict": {"bn1.bn_0.weight": torch.zeros(2)}}
    torch.save(published, root / "model_best.pth.tar")
    torch.save(published, root / "old.pth.tar", _use_new_zipfile_serialization=False)
    torch.save({"bn1.weight": torch.zeros(2)}, root / "weights.pth")
    save_file({"weight": torch.zeros(2)}, root / "weights.safetensors")
    (root / "notes.txt").write_text("rsseg 1, data.pkl, rsseg packed 1\n")
    Pictures.fromarray(np.zeros((20, 20, 3), np.uint8)).save(root / "photo.png")
    (root / "empty.pt").touch()
    (root / "run").mkdir()
    # The beginning that the format prescribes: a flatbuffer says what it is in its second word.
    (root / "net.pte").write_bytes(bytes([28, 0, 0, 0]) + b"ET12" + bytes(64))
    (root / "models").mkdir()
    for name in ("64.xml", "32.xml", "weights.bin"):
        (root / "models" / name).touch()
    return root


def _write_packed(path: Path) -> None:
    model = {"name": "resnet18", "classes": 3, "quantization": {"weights": 2, "activations": 32}}
    metadata: dict[str, Any] = {
        "task": "classification",
        "model": model,
        "resolutions": [64, 32],
        "batchnorm": "private",
        "preprocessing": {},
        "classes": ["a", "b", "c"],
    }
    torch.manual_seed(0)
    net = SwitchableNet(head_of("classification").network(model), [64, 32])
    save_packed(net.eval(), metadata, path)


def _write_other_onnx(path: Path) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    other = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    save_model(
        helper.make_model(
            helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [other])
        ),
        str(path),
    )


def test_files_are_what_they_hold_whatever_their_names(folder: Path, tmp_path: Path) -> None:
    for name, kind in FILES.items():
        assert file_kind(folder / name) is kind, name
        if (folder / name).is_file():
            renamed = tmp_path / "renamed.bin"
            renamed.write_bytes((folder / name).read_bytes())
            assert file_kind(renamed) is kind, name
    assert file_kind(Path("/dev/null")) is FileKind.OTHER


def test_messages_say_what_a_file_is_and_what_to_give(folder: Path) -> None:
    checkpoint = "give a checkpoint (.pt or packed .safetensors)"
    made_from = "give the checkpoint (.pt or packed .safetensors) that it was made from"
    expected = {
        "net.onnx": f"FILE is an exported file; {made_from}",
        "net.pte": f"FILE is an ExecuTorch program (.pte); {made_from}",
        "models": f"FILE is a folder of OpenVINO models; {made_from}",
        "net.pt2": f"FILE is an exported program (.pt2); {made_from}",
        "empty.pt": f"FILE is empty; {checkpoint}",
        "run": f"FILE is a folder; {checkpoint} in it, such as FILE/last.pt",
        "gone.pt": f"there is no file FILE; {checkpoint}",
        "notes.txt": f"FILE is not an rsseg checkpoint, or is damaged; {checkpoint}",
        "cut.onnx": "FILE is not an ONNX file, or is damaged; export it again",
        "other.onnx": f"FILE is an ONNX file that `rsseg export` did not write; {checkpoint}",
        "model_best.pth.tar": "FILE is a published checkpoint; make it a checkpoint with "
        "`rsseg import FILE --out NAME.pt`",
    }
    for name, message in expected.items():
        path = folder / name
        assert wrong_kind_message(path, CHECKPOINTS) == message.replace("FILE", str(path))
    for name in ("photo.png", "gone.onnx"):
        assert wrong_kind_message(folder / name, NETWORKS).endswith(
            f"; {checkpoint}, an ONNX file of `rsseg export`, an ExecuTorch program (.pte) or a "
            "folder of OpenVINO models"
        )
    for kind, words in (
        (FileKind.EXECUTORCH, "give an ExecuTorch program (.pte)"),
        (FileKind.OPENVINO, "give a folder of OpenVINO models"),
    ):
        assert wrong_kind_message(folder / "last.pt", [kind]).endswith(f"is a checkpoint; {words}")


def test_packed_network_is_loaded_whatever_its_name(folder: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "last.pt"
    renamed.write_bytes((folder / "packed.safetensors").read_bytes())
    assert load_checkpoint(renamed)[0].resolutions == (64, 32)


def test_checkpoint_is_loaded_whatever_its_name(folder: Path, tmp_path: Path) -> None:
    for name in ("last.safetensors", "last", "last.onnx"):
        (tmp_path / name).write_bytes((folder / "last.pt").read_bytes())
        assert load_checkpoint(tmp_path / name)[0].resolutions == (64, 32)


@pytest.mark.parametrize("name", [n for n, kind in FILES.items() if kind not in CHECKPOINTS])
def test_what_is_not_a_checkpoint_is_refused_with_one_line(folder: Path, name: str) -> None:
    for read in (read_checkpoint, load_checkpoint):
        with pytest.raises(CheckpointError) as caught:
            read(folder / name)
        assert str(folder / name) in str(caught.value)
        assert "\n" not in str(caught.value)


VERBS: dict[str, tuple[list[str], tuple[FileKind, ...]]] = {
    "export": (["export", "FILE", "--out", "OUT/x.onnx"], CHECKPOINTS),
    "pack": (["pack", "FILE", "--out", "OUT/x.safetensors"], CHECKPOINTS),
    "profile": (["profile", "FILE"], CHECKPOINTS),
    "measure": (["profile", "FILE", "--measure"], NETWORKS),
    "predict": (["predict", "FILE", "PHOTO", "--out", "OUT/out"], NETWORKS),
    "video": (["predict", "FILE", "PHOTO", "--video", "--out", "OUT/out.mp4"], NETWORKS),
    "serve": (["serve", "FILE", "--port", "0"], NETWORKS),
}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_says_of_a_wrong_file_what_it_is(
    verb: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, kinds = VERBS[verb]
    for name, kind in FILES.items():
        if kind in kinds:
            continue
        path = str(folder / name)
        given = [
            one.replace("FILE", path).replace("OUT", str(tmp_path)).replace("PHOTO", photo(folder))
            for one in arguments
        ]
        assert cli.main(given) == 2, name
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"rsseg {arguments[0]}: ")
        assert path in line
        if kind is FileKind.EMPTY:
            assert "is empty" in line
        elif kind not in (FileKind.WEIGHTS, FileKind.OTHER, FileKind.MISSING):
            assert f"{path} {kind.value}; " in line
        assert " is no " not in line.replace("there is no ", "")
    assert not list(tmp_path.iterdir())


def photo(folder: Path) -> str:
    return str(folder / "photo.png")
