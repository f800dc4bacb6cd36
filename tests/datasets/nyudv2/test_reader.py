"""Reading the official file of NYUDv2, and the refusal of every other."""

from __future__ import annotations

import json
import pickle
from multiprocessing import get_context
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import datasets.nyudv2.reader
from datasets.nyudv2.reader import Sample, open_nyudv2
from tests.helpers.processes import forkserver

HEIGHT, WIDTH = 6, 9
FACTS = json.loads(
    Path(datasets.nyudv2.reader.__file__).with_name("tables.json").read_text(encoding="utf-8")
)


def write_mat(path: Path, count: int = 4, **replaced: Any) -> Path:
    """Write random frames as MATLAB does, every axis reversed; the first three are for training."""
    rng = np.random.default_rng(0)
    content: dict[str, Any] = {
        "images": rng.integers(0, 256, (count, 3, WIDTH, HEIGHT), dtype=np.uint8),
        "labels": rng.integers(0, 895, (count, WIDTH, HEIGHT), dtype=np.uint16),
        "rsseg_train": np.arange(1, count),
        "rsseg_test": np.array([[count]]),
    } | replaced
    with h5py.File(path, "w") as file:
        for name, values in content.items():
            if values is not None:
                file[name] = values
    return path


def test_frames_are_transposed_from_the_order_of_matlab(tmp_path: Path) -> None:
    path = write_mat(tmp_path / "n.mat")
    image, labels, name = open_nyudv2(path, "test")[0]
    with h5py.File(path) as file:
        stored, stored_labels = file["images"][3], file["labels"][3]
    assert (image.shape, labels.shape, name) == ((HEIGHT, WIDTH, 3), (HEIGHT, WIDTH), "000004")
    assert image.dtype == labels.dtype == np.uint8
    for row in range(HEIGHT):
        for column in range(WIDTH):
            assert image[row, column].tolist() == stored[:, column, row].tolist()
            label = int(stored_labels[column, row])
            assert labels[row, column] == (FACTS["label_to_class"][label - 1] - 1 if label else 255)


def test_all_894_labels_become_the_class_of_the_table(tmp_path: Path) -> None:
    labels = np.arange(895, dtype=np.uint16).reshape(1, 179, 5)
    images = np.zeros((1, 3, 179, 5), dtype=np.uint8)
    path = write_mat(
        tmp_path / "n.mat", images=images, labels=labels, rsseg_train=[1], rsseg_test=[1]
    )
    read = open_nyudv2(path, "train")[0].labels.T.ravel()
    assert read.tolist() == [255] + [c - 1 for c in FACTS["label_to_class"]]
    assert np.bincount(read)[[37, 38, 39]].tolist() == [68, 82, 707]
    names = dict(zip(FACTS["label_names"], read[1:], strict=True))
    for number, name in enumerate(FACTS["classes"][:37]):
        assert names[name] == number


def test_official_file_has_the_official_split(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "n.mat", "w") as file:  # frames that are not written take no room
        shape, chunk = (1449, 3, 640, 480), (1, 3, 640, 480)
        images = file.create_dataset("images", shape, np.uint8, chunks=chunk)
        file.create_dataset("labels", (1449, 640, 480), np.uint16, chunks=(1, 640, 480))
        images[1448] = 7
    train, test = open_nyudv2(tmp_path, "train"), open_nyudv2(tmp_path, "test", crop="gupta")
    assert (len(train), len(test)) == (795, 654)
    assert train.names[:2] == ("000003", "000004")
    assert [int(name) for name in train.names] == FACTS["train"]
    assert {*train.names} | {*test.names} == {f"{index:06d}" for index in range(1, 1450)}
    assert test[-1].name == "001449"
    assert (test[-1].image == 7).all()
    assert (test[-1].labels == 255).all()
    assert test[-1].labels.shape == (425, 560)
    assert train.classes == tuple(FACTS["classes"])


def test_own_split_is_obeyed_in_its_order(tmp_path: Path) -> None:
    path = write_mat(tmp_path / "n.mat", rsseg_train=np.array([[3.0, 1.0]]))
    assert open_nyudv2(path, "train").names == ("000003", "000001")
    assert open_nyudv2(path, "test").names == ("000004",)


def test_reader_is_a_sequence(tmp_path: Path) -> None:
    reader = open_nyudv2(write_mat(tmp_path / "n.mat"), "train")
    assert [sample.name for sample in reader] == ["000001", "000002", "000003"]
    assert reader[-1].name == reader[np.int64(2)].name == "000003"
    for index in (3, -4):
        with pytest.raises(IndexError, match="of 3"):
            reader[index]


def test_a_reader_that_has_read_can_be_pickled(tmp_path: Path) -> None:
    reader = open_nyudv2(write_mat(tmp_path / "n.mat"), "train")
    first = reader[0]
    again = pickle.loads(pickle.dumps(reader))[0]
    np.testing.assert_array_equal(again.image, first.image)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("context", [get_context("fork"), forkserver()], ids=["fork", "new"])
def test_worker_processes_read_what_the_parent_reads(tmp_path: Path, context: BaseContext) -> None:
    reader = open_nyudv2(write_mat(tmp_path / "n.mat", count=9), "train")
    expected = list(reader)  # the parent holds the file open when the workers start
    loader: DataLoader[Sample] = DataLoader(
        reader,  # type: ignore[arg-type]  # any sequence will do
        batch_size=2,
        num_workers=2,
        multiprocessing_context=context,
    )
    batches = list(loader)
    images = torch.cat([batch.image for batch in batches])
    labels = torch.cat([batch.labels for batch in batches])
    np.testing.assert_array_equal(images, np.stack([sample.image for sample in expected]))
    np.testing.assert_array_equal(labels, np.stack([sample.labels for sample in expected]))
    np.testing.assert_array_equal(reader[0].image, expected[0].image)


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"labels": None}, "no dataset labels; it holds images, rsseg_test"),
        ({"images": None, "labels": None}, "no dataset images and no dataset labels"),
        ({"images": np.zeros((4, HEIGHT, WIDTH, 3), np.uint8)}, "expected .N, 3, width, height"),
        ({"images": np.zeros((3, 3, WIDTH, HEIGHT), np.uint8)}, "images of shape .3, 3, 9, 6"),
        ({"labels": np.zeros((4, HEIGHT, WIDTH), np.uint16)}, "labels of shape .4, 6, 9"),
        ({"images": np.zeros((4, 3, WIDTH, HEIGHT))}, "images are float64"),
        ({"labels": np.zeros((4, WIDTH, HEIGHT), np.int32)}, "labels int32; expected uint8 and"),
        ({"rsseg_test": None}, "both datasets rsseg_train and rsseg_test"),
        ({"rsseg_test": None, "rsseg_train": None}, "no split is known for 4 images of 9x6"),
        ({"rsseg_train": np.array([0, 1])}, r"rsseg_train: expected whole numbers in 1..4"),
        ({"rsseg_train": np.array([5])}, r"whole numbers in 1..4, got \[5\]"),
        ({"rsseg_train": np.array([1.5])}, "whole numbers"),
        ({"rsseg_train": np.array([2, 2])}, "names an image twice"),
    ],
)
def test_foreign_layout_is_refused_at_the_door(
    tmp_path: Path, replaced: dict[str, Any], message: str
) -> None:
    path = write_mat(tmp_path / "n.mat", **replaced)
    with pytest.raises(ValueError, match=rf"n\.mat.*{message}"):
        open_nyudv2(path, "train")


@pytest.mark.parametrize("kept", [0, 7, 600, -1])
def test_truncated_file_is_refused_at_the_door(tmp_path: Path, kept: int) -> None:
    path = write_mat(tmp_path / "n.mat")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"n\.mat: not a complete HDF5 file .* download"):
        open_nyudv2(path, "train")


def test_older_matlab_file_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "splits.mat").write_bytes(b"MATLAB 5.0 MAT-file, Platform: x" + bytes(500))
    with pytest.raises(ValueError, match=r"splits\.mat: an older MATLAB file without images"):
        open_nyudv2(tmp_path, "train")
    write_mat(tmp_path / "n.mat")
    assert len(open_nyudv2(tmp_path, "train")) == 3


def test_label_beyond_the_set_names_file_frame_and_value(tmp_path: Path) -> None:
    labels = np.zeros((4, WIDTH, HEIGHT), np.uint16)
    labels[1, 2, 3] = 895
    reader = open_nyudv2(write_mat(tmp_path / "n.mat", labels=labels), "train")
    assert (reader[0].labels == 255).all()
    with pytest.raises(ValueError, match=r"n\.mat, frame 2: holds the labels \[895\].*0..894"):
        reader[1]


def test_damaged_frame_names_file_and_frame(tmp_path: Path) -> None:
    path = write_mat(tmp_path / "n.mat", images=None)
    noise = np.random.default_rng(3).integers(0, 256, (4, 3, WIDTH, HEIGHT), dtype=np.uint8)
    with h5py.File(path, "a") as file:
        shape = noise.shape
        images = file.create_dataset("images", shape, "u1", chunks=(1, *shape[1:]), compression=4)
        images[:] = noise
        chunk = images.id.get_chunk_info(2)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = bytes(chunk.size)
    path.write_bytes(content)
    reader = open_nyudv2(path, "train")
    np.testing.assert_array_equal(reader[1].image, noise[1].transpose(2, 1, 0))
    with pytest.raises(ValueError, match=r"n\.mat, frame 3: unreadable"):
        reader[2]


def test_root_without_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere: no such file or folder"):
        open_nyudv2(tmp_path / "nowhere", "train")
    with pytest.raises(ValueError, match=r"exactly one \.mat file with images, found none"):
        open_nyudv2(tmp_path, "train")
    for name in ("a", "b"):
        write_mat(tmp_path / f"{name}.mat")
    with pytest.raises(ValueError, match=r"found a\.mat, b\.mat; name the file itself"):
        open_nyudv2(str(tmp_path), "train")


def test_unknown_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown split 'val'; the splits are train, test"):
        open_nyudv2(tmp_path, "val")  # type: ignore[arg-type]


@pytest.mark.parametrize("told", [{"void_value": 0}, {"label_offset": 1}, {"classes": 13}])
def test_label_convention_of_a_mat_file_cannot_be_told(
    tmp_path: Path, told: dict[str, int]
) -> None:
    with pytest.raises(ValueError, match=r"labels of a \.mat file are known"):
        open_nyudv2(write_mat(tmp_path / "n.mat"), "train", **told)  # type: ignore[arg-type]


def test_crops_refuse_other_names_and_sizes(tmp_path: Path) -> None:
    path = write_mat(tmp_path / "n.mat")
    with pytest.raises(ValueError, match="unknown crop 'eigen'; the crops are gupta, toolbox"):
        open_nyudv2(path, "train", crop="eigen")
    with pytest.raises(ValueError, match=r"n\.mat: the crop 'gupta' is .* 640x480 .* 9x6"):
        open_nyudv2(path, "train", crop="gupta")
