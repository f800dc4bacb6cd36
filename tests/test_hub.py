"""Facts about rsseg/hub.py: a folder holds the very network, and the card says what is known."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml
from PIL import Image as Pictures

import rsseg
from rsseg.cli.main import main
from rsseg.common.checkpoint import CheckpointError
from rsseg.common.file_kinds import FileKind, file_kind
from rsseg.hub import HubNet
from rsseg.runtime import Predictor
from rsseg.runtime.budget.table import latency_file, update_entries
from rsseg.save import describe_net
from rsseg.switchable.net import SwitchableNet
from tests.helpers.own_networks import OwnNet
from tests.helpers.small_checkpoint import write_checkpoint
from tests.helpers.small_latencies import HERE, entry, row
from tests.helpers.small_networks import randomise

BUILDER = "tests.helpers.own_networks:build"
FILES = ["README.md", "config.json", "model.safetensors"]


def image() -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (70, 50, 3), dtype=np.uint8)


def logits(predictor: Predictor) -> list[np.ndarray[Any, Any]]:
    return [predictor.predict(image(), side).logits for side in (64, 48, 32)]


def assert_equal(one: Predictor, other: Predictor) -> None:
    assert all(np.array_equal(a, b) for a, b in zip(logits(one), logits(other), strict=True))
    assert (one.classes, one.preprocessing) == (other.classes, other.preprocessing)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def own_hub_net() -> HubNet:
    net = SwitchableNet(OwnNet(dense=True), [64, 32], output="out")
    randomise(net)
    record = describe_net(net, builder=BUILDER, arguments={"dense": True})
    return HubNet(net, record)


def snippet(card: str) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    return str(code)


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_folder_gives_the_very_outputs_wherever_a_checkpoint_is_read(
    tmp_path: Path, task: str
) -> None:
    checkpoint = write_checkpoint(tmp_path / "a.pt", task)
    expected = Predictor.open(checkpoint)
    folder = tmp_path / "folder"
    assert HubNet.open(checkpoint).save_pretrained(folder) is None
    assert names(folder) == FILES
    assert file_kind(folder) is FileKind.PRETRAINED
    for predictor in (
        HubNet.from_pretrained(folder).predictor(),
        HubNet.from_pretrained(str(folder)).predictor(),
        HubNet.open(folder).predictor(),
        Predictor.open(folder),
    ):
        assert_equal(predictor, expected)
    net, preprocessing, metadata = rsseg.load_checkpoint(folder)
    assert not net.training
    assert preprocessing == expected.preprocessing
    assert metadata.resolutions == (64, 32)
    onnx = tmp_path / "a.onnx"
    assert main(["export", str(folder), "--out", str(onnx)]) == 0
    assert main(["profile", str(folder)]) == 0


def test_folder_says_nothing_about_the_machine_it_was_trained_on(tmp_path: Path) -> None:
    model = {"name": "mobilenetv2_035", "classes": 3, "weights": "/home/me/secret.pth"}
    values: dict[str, Any] = {
        "model": model,
        "config": {"data": {"root": "/home/me/secret"}},
        "name": "N",
    }
    checkpoint = write_checkpoint(tmp_path / "a.pt", **values)
    HubNet.open(checkpoint).save_pretrained(tmp_path / "folder")
    for name in ("README.md", "config.json"):
        assert "secret" not in (tmp_path / "folder" / name).read_text()
    written = json.loads((tmp_path / "folder" / "config.json").read_text())
    assert written["format"] == "rsseg folder 1"
    assert written["resolutions"] == [64, 32]


def test_own_network_in_a_folder_needs_the_same_permission(tmp_path: Path) -> None:
    own = own_hub_net()
    folder = tmp_path / "folder"
    own.save_pretrained(folder)
    for read in (HubNet.from_pretrained, HubNet.open, Predictor.open):
        with pytest.raises(ValueError, match=r"code that is not in the file.*--allow-builder"):
            read(folder)
    loaded = HubNet.from_pretrained(folder, allow_builder=True)
    assert_equal(loaded.predictor(), own.predictor())
    card = (folder / "README.md").read_text()
    assert "It imports and runs tests.helpers.own_networks:build(dense=True)" in card


def test_card_shows_what_lies_beside_the_checkpoint_and_what_was_given(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "last.pt", name="Birds", macs={"64": 2_000_000_000})
    results = {"metrics": {"64": {"top1": 0.731, "top5": 0.9}, "32": {"top1": 0.6, "top5": 0.8}}}
    (tmp_path / "results.json").write_text(json.dumps(results))
    update_entries(latency_file(checkpoint), [entry(HERE, row(64, 12.34))])
    facts: dict[str, Any] = {
        "license": "mit",
        "datasets": ["imagenette"],
        "text": "Trained on two cores.",
    }
    HubNet.open(checkpoint).save_pretrained(tmp_path / "folder", model_card_kwargs=facts)
    card = (tmp_path / "folder" / "README.md").read_text()
    _, head, body = card.split("---\n", 2)
    assert yaml.safe_load(head) == {
        "library_name": "rsseg",
        "license": "mit",
        "datasets": ["imagenette"],
        "pipeline_tag": "image-classification",
        "tags": ["model_hub_mixin", "resolution-switchable"],
    }
    lines = body.splitlines()
    assert "# Birds" in lines
    assert "Trained on two cores." in lines
    (first,) = (line for line in lines if line.startswith("| 64 |"))
    (second,) = (line for line in lines if line.startswith("| 32 |"))
    assert first == "| 64 | 73.1 | 2 | 12.3 |"
    assert second == "| 32 | 60.0 | not measured | not measured |"
    assert "3 classes: church, tench, golf ball." in lines
    assert "Trained with imagenette. Licence: mit." in lines


def test_card_shows_no_accuracy_of_another_network_in_the_folder(tmp_path: Path) -> None:
    nets = [SwitchableNet(OwnNet(dense=True), [64, 32], output="out") for _ in range(2)]
    arguments: dict[str, Any] = {"builder": BUILDER, "arguments": {"dense": True}}
    records = []
    for net, name in zip(nets, ("last.pt", "other.pt"), strict=True):
        randomise(net)
        records.append(rsseg.save_checkpoint(net, tmp_path / name, **arguments))
    metrics = {"64": {"pixel_accuracy": 0.95, "mean_accuracy": 0.93, "mean_iou": 0.91}}
    results = {**records[0].plain(), "metrics": metrics}
    (tmp_path / "results.json").write_text(json.dumps(results))
    cards = [
        str(HubNet.open(tmp_path / name, allow_builder=True).generate_model_card())
        for name in ("last.pt", "other.pt")
    ]
    assert "| 64 | 91.0 |" in cards[0]
    assert "| 64 | not measured |" in cards[1]


def test_card_says_what_is_not_known(tmp_path: Path) -> None:
    HubNet.open(write_checkpoint(tmp_path / "a.pt", "segmentation")).save_pretrained(tmp_path / "f")
    card = (tmp_path / "f" / "README.md").read_text()
    assert "| 64 | not measured | not measured | not measured |" in card
    assert "The training data are not stated. The licence is not stated" in card
    assert "license" not in card.split("---\n", 2)[1]
    with pytest.raises(TypeError, match="licence"):
        HubNet.open(tmp_path / "a.pt").generate_model_card(licence="mit")  # type: ignore[call-arg]


@pytest.mark.parametrize("task", ["classification", "segmentation", "own"])
def test_snippet_of_the_card_runs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    task: str,
) -> None:
    own = own_hub_net() if task == "own" else HubNet.open(write_checkpoint(tmp_path / "a.pt", task))
    own.save_pretrained(tmp_path / "folder")
    Pictures.fromarray(image()).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    exec(snippet((tmp_path / "folder" / "README.md").read_text()), {})
    shown = capsys.readouterr().out
    assert "(70, 50)" in shown if task != "classification" else "golf ball" in shown


def test_card_that_the_user_wrote_is_kept(tmp_path: Path) -> None:
    own = HubNet.open(write_checkpoint(tmp_path / "a.pt"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "README.md").write_text("mine")
    own.save_pretrained(tmp_path / "folder")
    assert (tmp_path / "folder" / "README.md").read_text() == "mine"


class Upload(NamedTuple):
    """What a hub was sent."""

    repository: str
    folder: Path
    options: dict[str, Any]


def test_push_uploads_the_folder_and_the_identifier_reads_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = []

    class Api:
        """Stands for huggingface_hub's client: keeps what would be uploaded."""

        def __init__(self, token: str | None = None) -> None:
            assert token is None

        def create_repo(self, repo_id: str, private: bool | None, exist_ok: bool) -> Any:
            assert private is True
            assert exist_ok
            return type("Url", (), {"repo_id": repo_id})

        def upload_folder(self, *, repo_id: str, folder_path: Path, **options: Any) -> str:
            shutil.copytree(folder_path, tmp_path / "hub")
            uploads.append(Upload(repo_id, tmp_path / "hub", options))
            return "https://hub/commit"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Api)
    own = HubNet.open(write_checkpoint(tmp_path / "a.pt"))
    address = own.push_to_hub("me/net", private=True, model_card_kwargs={"license": "mit"})
    assert address == "https://hub/commit"
    ((repository, folder, options),) = uploads
    assert (repository, options["repo_type"]) == ("me/net", "model")
    assert names(folder) == FILES
    card = (folder / "README.md").read_text()
    assert "HubNet.from_pretrained('me/net')" in card
    assert "license: mit" in card

    def download(repo_id: str, filename: str, **_: Any) -> str:
        assert repo_id == "me/net"
        return str(folder / filename)

    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", download)
    monkeypatch.setattr("rsseg.hub.snapshot_download", lambda repo_id, **_: str(folder))
    assert_equal(HubNet.from_pretrained("me/net").predictor(), own.predictor())


def test_damaged_folder_and_folder_of_another_library_are_told_apart(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    HubNet.open(write_checkpoint(tmp_path / "a.pt")).save_pretrained(folder)
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"is damaged .*; get it again"):
        rsseg.load_checkpoint(folder)
    weights.unlink()
    assert file_kind(folder) is FileKind.FOLDER
    weights.write_bytes(content)
    config = folder / "config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps({**values, "resolutions": [64]}))
    with pytest.raises(CheckpointError, match=r"not in the network: .*sets\.32"):
        rsseg.load_checkpoint(folder)
    config.write_text(json.dumps({"encoder_name": "resnet18"}))
    assert file_kind(folder) is FileKind.FOLDER
    with pytest.raises(CheckpointError, match="is a folder; give a checkpoint"):
        rsseg.load_checkpoint(folder)


@pytest.mark.parametrize("name", ["nope_dir", "./nope", "../nope", "/nope/dir", "a/b/c", "~/n"])
def test_folder_that_does_not_exist_is_named_before_a_hub_is_asked(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object, **__: object) -> None:
        raise AssertionError("the hub is asked")

    monkeypatch.setattr("rsseg.hub.snapshot_download", asked)
    with pytest.raises(FileNotFoundError, match=f"there is no folder '{name}', and it is not an"):
        HubNet.from_pretrained(name)


def test_networks_that_share_tensors_are_written(tmp_path: Path) -> None:
    own = own_hub_net()
    body = own.net.get_submodule("network.network.body")
    twice = body.get_submodule("0")
    assert isinstance(twice.bias, torch.Tensor)
    twice.bias.data = torch.zeros(8)[::2]  # A view with gaps.
    own.save_pretrained(tmp_path / "folder")
    loaded = HubNet.from_pretrained(tmp_path / "folder", allow_builder=True)
    assert_equal(loaded.predictor(), own.predictor())
