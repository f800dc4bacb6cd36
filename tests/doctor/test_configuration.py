"""What the doctor says of a configuration: its faults, and what its run needs of a machine."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from classification.config import ClassificationConfig
from rsseg.common.checkpoint import write_checkpoint
from rsseg.common.yaml_files import ConfigError
from rsseg.doctor import configuration as doctor_run
from rsseg.doctor import machine
from rsseg.doctor.checks import Finding
from rsseg.segmentation.config import SegmentationConfig
from tests.helpers.processes import ROOT
from tests.helpers.small_configs import write_config, write_splits

SEGMENTER = {"architecture": "refinenet", "encoder_name": "tu-resnet10t", "decoder_channels": 8}


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of images, in a working folder without runs."""
    monkeypatch.chdir(tmp_path)
    return write_splits(tmp_path / "images")


def examined(path: Path, *overrides: str) -> dict[str, Finding]:
    return {finding.check: finding for finding in doctor_run.examine_run(path, overrides)}


def test_run_that_can_start_has_no_fault(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "usable_cores", lambda: 2)
    path = write_config(Path("x.yaml"), data={"root": str(images)}, model={"classes": 2})
    found = examined(path)
    assert {finding.state for finding in found.values()} == {"ok"}
    assert found["configuration"].found == "one of train_cls.py"
    expected = {"run folder", "data", "device", "precision", "workers", "shared memory", "disk"}
    assert expected < found.keys()


def test_every_ill_of_a_run_is_told(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")._replace(free=2**10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
    monkeypatch.setattr(machine, "usable_cores", lambda: 1)
    shutil.rmtree(images / "val")
    Path("runs/x").mkdir(parents=True)
    Path("runs/x/last.pt").touch()
    path = write_config(
        Path("x.yaml"), data={"root": str(images)}, device="toaster", model={"classes": 2}
    )
    found = examined(path)
    assert {check for check, finding in found.items() if finding.state == "fault"} == {
        *("data", "device", "shared memory", "open files", "disk")
    }
    assert str(images / "val") in found["data"].found
    assert "device 'toaster' cannot be used here" in found["device"].found
    assert found["workers"].state == found["run folder"].state == "hint"
    assert "--resume runs/x" in found["run folder"].remedy


def test_segmenter_needs_its_readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "installed", lambda name: (None, ""))
    monkeypatch.setattr(machine, "requirements", lambda: ({}, ""))
    found = examined(write_config(tmp_path / "x.yaml", model=SEGMENTER, data={"root": "nowhere"}))
    assert found["configuration"].found == "one of train_seg.py"
    assert found["albumentations"].state == found["h5py"].state == found["data"].state == "fault"


def test_model_that_cannot_be_built_is_a_fault_of_the_file(images: Path) -> None:
    found = examined(
        write_config(
            Path("x.yaml"), data={"root": str(images)}, model={"name": "resnet18", "width": 0.5}
        )
    )
    assert found["model"].state == "fault"
    assert "no width multiplier" in found["model"].found


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"model": {**SEGMENTER, "encoder_nam": 1}}, "did you mean 'encoder_name'?"),
        ({"model": {"name": "resnet18", "widht": 1}}, "did you mean 'width'?"),
        ({"optim": {"lr": -1}, "epochs": 0}, "'optim.lr'"),
    ],
)
def test_faults_of_a_file_are_those_of_the_closer_kind(
    tmp_path: Path, values: dict[str, Any], told: str
) -> None:
    path = write_config(tmp_path / "x.yaml", data={"root": "x"}, **values)
    (finding,) = doctor_run.examine_run(path, ())
    assert finding.state == "fault"
    assert told in finding.found
    with pytest.raises(ConfigError, match="cannot read"):
        doctor_run.read_run(tmp_path / "gone.yaml", ())


def test_every_configuration_belongs_to_its_script() -> None:
    for folder, script in (("imagenette", "train_cls.py"), ("nyudv2", "train_seg.py")):
        for path in (ROOT / "configs" / folder).rglob("*.yaml"):
            assert doctor_run.read_run(path, ())[0] == script


def test_known_settings_of_a_classifier_are_all_of_them() -> None:
    ours, whole = fields(doctor_run.ClassifierRun), fields(ClassificationConfig)
    assert {field.name for field in ours} == {field.name for field in whole}


def test_shared_memory_is_that_of_the_tensors(tmp_path: Path) -> None:
    path = write_config(tmp_path / "x.yaml", model=SEGMENTER, data={"root": "x"})
    config = doctor_run.read_run(path, ())[1]
    assert isinstance(config, SegmentationConfig)
    views = [torch.empty(4, 3, side, side, dtype=torch.uint8) for side in (64, 32)]
    labels = torch.empty(4, 64, 64, dtype=torch.uint8)
    batch = sum(tensor.nbytes for tensor in [*views, labels])
    assert doctor_run.shared_bytes(config) == 2 * 2 * batch  # Each of two workers is two ahead.
    on_device = ["data.resize_on=device", "augmentation.crops=per_resolution", "workers=1"]
    path = write_config(tmp_path / "y.yaml", data={"root": "x"})
    crops = torch.empty(2, 4, 3, 480, 640, dtype=torch.uint8)
    assert doctor_run.shared_bytes(doctor_run.read_run(path, on_device)[1]) == 2 * crops.nbytes
    assert doctor_run.shared_bytes(doctor_run.read_run(path, ["workers=0"])[1]) == 0


def test_disk_is_that_of_four_checkpoints(tmp_path: Path) -> None:
    model = {"name": "mobilenetv2", "width": 0.25, "classes": 5}
    path = write_config(tmp_path / "x.yaml", data={"root": "x"}, model=model)
    config = doctor_run.read_run(path, ())[1]
    net = doctor_run._net(config)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for parameter in net.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    content = {"net": net.state_dict(), "optimizer": optimizer.state_dict()}
    write_checkpoint(tmp_path / "x.pt", content)
    written = (tmp_path / "x.pt").stat().st_size
    # Of so small a network the names are a part as well.
    assert doctor_run.disk_bytes(config) == pytest.approx(4 * written, rel=0.12)
    averaged = doctor_run.read_run(path, ["ema_decay=0.9"])[1]
    more = 4 * sum(tensor.nbytes for tensor in net.state_dict().values())
    assert doctor_run.disk_bytes(averaged) == doctor_run.disk_bytes(config) + more


def test_what_does_not_answer_is_not_waited_for() -> None:
    def slow() -> str:
        time.sleep(2)
        return "late"

    begin = time.perf_counter()
    assert doctor_run.within(0.05, slow, "no answer") == "no answer"
    assert time.perf_counter() - begin < 1
    assert doctor_run.within(5, lambda: "at once", "no answer") == "at once"


def test_unreadable_data_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor_run.reading_error(tmp_path) == "the folder is empty"
    path = tmp_path / "x.mat"
    assert doctor_run.reading_error(path) == os.strerror(errno.ENOENT)
    path.touch()
    assert doctor_run.reading_error(path) == "the file is empty"
    path.write_text("x")
    assert doctor_run.reading_error(path) == doctor_run.reading_error(tmp_path) == ""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert doctor_run.reading_error(path) == "Permission denied"


@pytest.mark.parametrize("bf16", [True, False])
def test_doctor_says_what_auto_takes(
    images: Path, monkeypatch: pytest.MonkeyPatch, bf16: bool
) -> None:
    monkeypatch.setattr("rsseg.training.beginning.computes_bf16", lambda _: bf16)
    values = {"data": {"root": str(images)}, "device": "cpu", "precision": "auto"}
    path = write_config(Path("x.yaml"), model={"classes": 2}, **values)
    found = examined(path)["precision"]
    assert found.state == "ok"
    assert found.found.startswith("auto takes bf16: " if bf16 else "auto takes fp32: ")
    path = write_config(
        Path("x.yaml"), model={"name": "resnet18", "width": 0.5, "classes": 2}, **values
    )
    assert "the network is not known" in examined(path)["precision"].found
