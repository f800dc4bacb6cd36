"""Shards of webdataset: listed for tests, streamed for training, and no sample is left out."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from classification.config import ClassificationConfig
from datasets import classification
from datasets.classification import TestImages, training_batches
from datasets.imagenet.shards import image_kind, parse_label, split_name
from datasets.imagenet.streams import Part, ShardStream, open_stream
from datasets.stream_loader import StreamLoader
from rsseg.classifiers.config import ImageDataConfig
from tests.datasets.imagenet.test_reader import some_image
from tests.helpers.small_images import image_config

pytest.importorskip("webdataset")
# webdataset leaves the shard open in which a stream is given up.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:unclosed file:ResourceWarning"
)

Files = dict[str, bytes]


def png(seed: int) -> bytes:
    from PIL import Image as Pictures

    stream = io.BytesIO()
    Pictures.fromarray(some_image(40, 48, seed)).save(stream, "png")
    return stream.getvalue()


def write_shard(path: Path, samples: dict[str, Files]) -> None:
    with tarfile.open(path, "w") as tar:
        for key, files in samples.items():
            for kind, content in files.items():
                member = tarfile.TarInfo(f"{key}.{kind}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def write_shards(
    root: Path, files: Callable[[int], Files], *, shards: int = 4, each: int = 6
) -> Path:
    """Write shards of both splits; sample i of a split is `files(i)`."""
    root.mkdir(exist_ok=True)
    for split in ("train", "val"):
        for shard in range(shards):
            own = range(shard * each, (shard + 1) * each)
            write_shard(root / f"{split}-{shard}.tar", {f"s{i:03}": files(i) for i in own})
    return root


def sample(index: int, first: int = 0) -> Files:
    return {"png": png(index), "cls": str(index % 3 + first).encode()}


def config(root: Path, **values: Any) -> ClassificationConfig:
    data = {"root": f"wds/{root}", "train": "train-{0..3}.tar", "val": "val-{0..3}.tar"}
    return image_config(root, **{**values, "data": {**data, **values.get("data", {})}})


def loader(root: Path, **values: Any) -> StreamLoader:
    batches = training_batches(config(root, **values))
    assert isinstance(batches, StreamLoader)
    return batches


def stream(root: Path, classes: int = 3, **data: Any) -> ShardStream:
    settings = config(root, data=data).data
    opened = open_stream(settings, classes, seed=0, parts=1, batch_size=4)
    assert isinstance(opened, ShardStream)
    return opened


def taken(root: Path, count: int, *, number: int = 0, parts: int = 1, epoch: int = 0) -> list[str]:
    samples = stream(root).part(Part(5, epoch, number, parts))
    return [one.name.rpartition(" ")[2] for one in islice(samples, count)]


def flat(batches: Iterator[Any]) -> list[torch.Tensor]:
    return [tensor for views, target in batches for tensor in (*views, target)]


def test_test_images_are_listed_and_read_once(tmp_path: Path) -> None:
    tests = TestImages(config(write_shards(tmp_path / "d", sample)))
    assert len(tests.names) == 24
    assert tests.names[7] == "val-1.tar/s007"
    assert tests.images.labels.tolist() == [index % 3 for index in range(24)]
    assert tests.classes == ("class 0", "class 1", "class 2")
    for index in (0, 7, 23):
        np.testing.assert_array_equal(tests.images[index][0], some_image(40, 48, index))
    targets = [torch.as_tensor(target) for _, target in tests.batches([48])]
    assert torch.cat(targets).tolist() == tests.images.labels.tolist()
    assert tests.summary.startswith("4 webdataset shards, 24 images, 3 classes; ")


def test_both_splits_count_their_classes_from_one_number(tmp_path: Path) -> None:
    root = write_shards(tmp_path / "d", sample)
    for shard in range(4):
        own = {f"s{index:03}": sample(index, first=1) for index in range(6)}
        write_shard(root / f"val-{shard}.tar", own)
    # The training labels are 0..2, those of the test 1..3, and there are 3 classes.
    assert stream(root).first == 0
    with pytest.raises(ValueError, match=r"val-0\.tar/s002: class 3; expected a number 0 to 2"):
        TestImages(config(root))
    for shard in range(4):
        write_shard(root / f"train-{shard}.tar", {"s": sample(0, first=1)})
    # What the training labels do not prove, those of the test do.
    assert stream(root).first == 1
    assert set(TestImages(config(root)).images.labels) == {0, 1, 2}


def test_parts_of_an_epoch_hold_every_sample_once(tmp_path: Path) -> None:
    root = write_shards(tmp_path / "d", sample)
    every = sorted(f"s{index:03}" for index in range(24))
    # A worker that has its shards read goes on with those of the next pass.
    whole = taken(root, 24)
    halves = [taken(root, 12, number=number, parts=2) for number in (0, 1)]
    assert sorted(set(whole + taken(root, 72))) == every
    assert len(set(halves[0] + halves[1])) > 12
    assert whole == taken(root, 24)
    assert whole != taken(root, 24, epoch=1)


def test_stream_gives_the_images_and_classes_that_were_packed(tmp_path: Path) -> None:
    for one in islice(stream(write_shards(tmp_path / "d", sample)).part(Part(0, 0, 0, 1)), 30):
        index = int(one.name[-3:])
        assert one.label == index % 3
        np.testing.assert_array_equal(one.read(), some_image(40, 48, index))


@pytest.mark.parametrize("workers", [0, 2])
def test_stopped_epoch_of_a_stream_goes_on_where_it_was(tmp_path: Path, workers: int) -> None:
    root = write_shards(tmp_path / "d", sample)
    whole = flat(loader(root, workers=workers).epoch(1))
    assert len(whole) == 6 * 3
    for step in (1, 4):
        rest = flat(loader(root, workers=workers).epoch(1, step))
        torch.testing.assert_close(rest, whole[3 * step :], rtol=0, atol=0)


def test_steps_and_fingerprint_are_those_of_the_samples(tmp_path: Path) -> None:
    root = write_shards(tmp_path / "d", sample)
    batches = loader(root)
    assert (batches.steps, batches.batch_size) == (6, 4)
    assert batches.fingerprint["train_samples"] == 24
    assert loader(root, data={"train": "train-{0..3}.tar|12"}).steps == 3
    moved = root.rename(tmp_path / "moved")
    assert loader(moved).fingerprint == batches.fingerprint
    assert "in an epoch some images may come twice, others not" in batches.summary


def test_splits_of_the_info_file_are_known(tmp_path: Path) -> None:
    root = write_shards(tmp_path / "d", sample)
    names = [f"train-{index}.tar" for index in range(4)]
    split = {"name": "train", "num_samples": 24, "filenames": names, "shard_lengths": [6] * 4}
    (root / "_info.json").write_text(json.dumps({"splits": {"train": split}}), encoding="utf-8")
    assert loader(root, data={"train": "train"}).fingerprint["train_samples"] == 24
    with pytest.raises(ValueError, match=r"split test not found in info .*set data\.train to"):
        loader(root, data={"train": "test"})


def test_class_may_be_a_field_of_the_json_file(tmp_path: Path) -> None:
    def files(index: int) -> Files:
        text = json.dumps({"kind": index % 3, "place": "here"})
        return {"json": text.encode(), "png": png(index)}

    root = write_shards(tmp_path / "d", files)
    tests = TestImages(config(root, data={"label_key": "kind"}))
    assert tests.images.labels.tolist() == [index % 3 for index in range(24)]
    assert next(stream(root, label_key="kind").part(Part(0, 0, 0, 1))).label in (0, 1, 2)
    with pytest.raises(ValueError, match=r"s000: no class: 'cls' is missing .*json, png"):
        TestImages(config(root))


def test_classes_that_count_from_1_are_proven_by_the_last(tmp_path: Path) -> None:
    root = write_shards(tmp_path / "d", lambda index: sample(index, first=1))
    tests = TestImages(config(root))
    assert tests.images.labels.tolist() == [index % 3 for index in range(24)]
    assert tests.classes == ("class 1", "class 2", "class 3")
    assert {one.label for one in islice(stream(root).part(Part(0, 0, 0, 1)), 24)} == {0, 1, 2}


def test_classes_that_prove_nothing_are_refused_by_both_splits(tmp_path: Path) -> None:
    root = write_shards(tmp_path / "d", lambda index: sample(index, first=1))
    for opener in (classification.training_batches, TestImages):
        with pytest.raises(ValueError, match=r"numbers from 1 to 3, and model\.classes is 5"):
            opener(config(root, model={"name": "test_resnet", "classes": 5}))
    assert stream(root, 5, label_offset=1).first == 1


def test_class_out_of_range_names_the_sample(tmp_path: Path) -> None:
    root = write_shards(tmp_path / "d", sample)
    with pytest.raises(ValueError, match=r"val-0\.tar/s002: class 2; expected a number 0 to 1"):
        TestImages(
            config(root, model={"name": "test_resnet", "classes": 2}, data={"label_offset": 0})
        )
    batches = loader(root, model={"name": "test_resnet", "classes": 2}, data={"label_offset": 0})
    with pytest.raises(ValueError, match=r"train-\d\.tar: s0\d\d: class 2; expected"):
        flat(batches.epoch(0))


def test_damaged_images_are_counted_or_named(tmp_path: Path) -> None:
    def files(index: int) -> Files:
        return {**sample(index), "png": b"none" if index == 7 else png(index)}

    root = write_shards(tmp_path / "d", files)
    with pytest.raises(ValueError, match=r"train-1\.tar: s007: unreadable image"):
        flat(loader(root).epoch(0))
    batches = loader(root, data={"max_unreadable": 1})
    for epoch in range(3):
        assert len(flat(batches.epoch(epoch))) == 6 * 3
    assert [name.rpartition(" ")[2] for name in batches.faults] == ["s007"]


@pytest.mark.parametrize("workers", [0, 2])
def test_epoch_goes_on_between_damaged_images_as_it_was(tmp_path: Path, workers: int) -> None:
    def files(index: int) -> Files:
        damaged = index in (2, 3, 10, 16, 17, 22)
        return {**sample(index), "png": b"none" if damaged else png(index)}

    root = write_shards(tmp_path / "d", files)
    settings: dict[str, Any] = {"workers": workers, "batch_size": 3, "data": {"max_unreadable": 6}}
    whole = flat(loader(root, **settings).epoch(0))
    for step in range(1, 8):
        rest = flat(loader(root, **settings).epoch(0, step))
        assert len(rest) == len(whole) - 3 * step
        for again, first in zip(rest, whole[3 * step :], strict=True):
            torch.testing.assert_close(again, first, rtol=0, atol=0)


def test_more_readers_than_shards_and_a_limit_are_refused(tmp_path: Path) -> None:
    root = write_shards(tmp_path / "d", sample)
    with pytest.raises(ValueError, match=r"5 processes read .* set workers to at most 4"):
        loader(root, workers=5)
    with pytest.raises(ValueError, match=r"data\.limit needs images by index"):
        loader(root, data={"limit": 3})


def test_shards_that_are_missing_or_far_are_named(tmp_path: Path) -> None:
    root = write_shards(tmp_path / "d", sample)
    with pytest.raises(FileNotFoundError, match=r"val-4\.tar: no such file; 2 of 6 shards"):
        TestImages(config(root, data={"val": "val-{0..5}.tar"}))
    far: dict[str, Any] = {
        "root": "wds/http://127.0.0.1:9/d",
        "train": "t-{0..1}.tar",
        "label_offset": 0,
    }
    with pytest.raises(ValueError, match="nothing tells the number of samples"):
        open_stream(ImageDataConfig(**far), 3, seed=0, parts=1, batch_size=4)
    with pytest.raises(ValueError, match=r"val-0\.tar is not a local file; training can stream"):
        TestImages(config(root, data={"root": "wds/http://127.0.0.1:9/d"}))


@pytest.mark.parametrize("text", ["dog", "1.5", "", "nan", "1 2", "9" * 5000])
def test_class_that_is_no_number_names_the_sample(text: str) -> None:
    with pytest.raises(ValueError, match=r"^a/b: no class: "):
        parse_label("a/b", {"cls": text.encode()}, None)


def test_names_of_members_split_at_the_first_dot() -> None:
    assert split_name("d.e/a.b.JPG") == ("d.e/a", "b.jpg")
    assert image_kind(["cls", "jpeg"], "a") == "jpeg"
    for kinds in (["cls"], ["jpg", "png"]):
        with pytest.raises(ValueError, match=f"a: {len(kinds) if 'jpg' in kinds else 0} images"):
            image_kind(kinds, "a")
