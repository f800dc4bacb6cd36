"""Own data by configuration: layouts, values and names become samples; nothing is guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pictures
from PIL import ImageOps

from datasets.folders import FoldersReader
from datasets.label_counts import count_labels, label_summary
from datasets.samples import Split, is_kept_for_test
from datasets.segmentation import open_reader
from rsseg.common.config import plain, validate
from rsseg.segmentation.config import DataConfig, SegmentationConfig
from rsseg.segmentation.presets import preset_names, read_preset

SIZE = (6, 8)
SAME: dict[str, Any] = {
    "train": {"images": "i", "labels": "m"},
    "test": {"images": "i", "labels": "m"},
    "allow_shared": True,
}


def draw(root: Path, name: str, pixels: NDArray[Any]) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Pictures.fromarray(pixels).save(path)


def photo(root: Path, name: str, size: tuple[int, int] = SIZE) -> None:
    pixels = np.random.default_rng(len(name)).integers(0, 256, (*size, 3), dtype=np.uint8)
    draw(root, name, pixels)


def values(*present: int) -> NDArray[np.uint8]:
    return np.resize(np.array(present, dtype=np.uint8), SIZE)


def config(root: Path, **keys: Any) -> DataConfig:
    return validate(DataConfig, {"root": str(root), **keys}, "own.yaml")


def opened(root: Path, classes: int, *, split: Split = "train", **keys: Any) -> FoldersReader:
    reader = open_reader(config(root, **keys), split, classes)
    assert isinstance(reader, FoldersReader)
    return reader


def camvid(root: Path) -> Path:
    for split in ("train", "val", "test"):
        for name in ("a", "b"):
            photo(root, f"{split}/{name}.png")
            draw(root, f"{split}annot/{name}.png", values(*range(12)))
    return root


def test_camvid_as_published_is_read_by_its_preset_and_refused_without(tmp_path: Path) -> None:
    reader = opened(camvid(tmp_path), 11, preset="camvid")
    np.testing.assert_array_equal(
        reader[0].labels, np.where(values(*range(12)) == 11, 255, values(*range(12)))
    )
    assert (reader.classes[0], len(reader)) == ("sky", 2)
    where: dict[str, Any] = {s: {"images": s, "labels": f"{s}annot"} for s in ("train", "test")}
    with pytest.raises(ValueError, match=r"labels: \{offset: 0, void: \[11\]\}.*") as error:
        opened(tmp_path, 11, **where)
    assert "labels: {offset: 1, void: [0]}" in str(error.value)


def test_masks_of_0_and_255_are_never_read_as_void_in_silence(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        photo(tmp_path, f"images/{name}.jpg")
        draw(tmp_path, f"masks/{name}.png", values(0, 255))
    where: dict[str, Any] = {"train": {"images": "images", "labels": "masks"}, "test_share": 0.5}
    with pytest.raises(ValueError, match=r"labels: \{binary: true\}"):
        opened(tmp_path, 2, **where)
    reader = opened(tmp_path, 2, preset="binary", **where)
    assert set(np.unique(reader[0].labels)) == {0, 1}
    assert reader.classes == ("background", "foreground")
    stated = opened(tmp_path, 2, labels={"offset": 0, "void": [255]}, **where)
    with pytest.raises(ValueError, match=r"1 of 2 classes have no pixel.*class 1; .*allow_absent"):
        label_summary(stated, allow_absent=False)


def test_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match=r"model\.classes is 1.*binary"):
        validate(
            SegmentationConfig,
            {
                "data": {"root": "x"},
                "model": {"classes": 1},
                "resolutions": [64, 32],
                "epochs": 1,
                "batch_size": 2,
                "optim": {"lr": 0.1},
            },
            "own.yaml",
        )


def test_names_are_numbers_unless_they_are_given(tmp_path: Path) -> None:
    photo(tmp_path, "i/a.jpg")
    draw(tmp_path, "m/a.png", values(*range(40), 255))
    where = SAME
    assert opened(tmp_path, 40, **where).classes[7] == "class 7"
    (tmp_path / "n.txt").write_text("\n".join(f"thing {i}" for i in range(40)), encoding="utf-8")
    assert opened(tmp_path, 40, names="n.txt", **where).classes[7] == "thing 7"
    with pytest.raises(ValueError, match=r"n\.txt: names 40 classes, expected 41"):
        opened(tmp_path, 41, names="n.txt", labels={"offset": 0, "void": [255]}, **where)


def test_colours_of_label_maps_become_classes(tmp_path: Path) -> None:
    colours = np.array([[0, 0, 0], [128, 0, 0], [255, 255, 255]], dtype=np.uint8)
    expected = np.resize(np.arange(3), SIZE)
    photo(tmp_path, "i/a.jpg")
    draw(tmp_path, "m/a.png", colours[expected])
    where = SAME
    labels = {"colours": [[0, 0, 0], [128, 0, 0]], "void": [[255, 255, 255]]}
    read = opened(tmp_path, 2, labels=labels, **where)[0].labels
    np.testing.assert_array_equal(read, np.where(expected == 2, 255, expected))
    with pytest.raises(ValueError, match=r"a\.png: holds colours .*list the colour of each class"):
        opened(tmp_path, 2, **where)


def test_a_share_for_the_test_is_disjoint_complete_and_moves_no_other_sample(
    tmp_path: Path,
) -> None:
    for index in range(30):
        photo(tmp_path, f"i/{index}.jpg")
        draw(tmp_path, f"m/{index}.png", values(0, 1, 255))
    keys: dict[str, Any] = {"train": {"images": "i", "labels": "m"}, "test_share": 0.3}
    train, test = (opened(tmp_path, 2, split=split, **keys).names for split in ("train", "test"))
    assert not {*train} & {*test}
    assert {*train, *test} == {str(index) for index in range(30)}
    assert {*test} == {name for name in map(str, range(30)) if is_kept_for_test(name, 0.3)}
    shares = [is_kept_for_test(str(index), 0.3) for index in range(10_000)]
    assert abs(np.mean(shares) - 0.3) < 0.02


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"train": {"images": "i", "labels": "m"}}, "state where the test samples are"),
        ({"test": {"images": "i", "labels": "m"}}, "test is given and train is not"),
        ({"test_share": 0.2}, "state where the test samples are"),
        ({"preset": "camvit"}, "unknown preset 'camvit'; did you mean 'camvid'"),
        ({"labels": {"offset": 0}, "label_offset": 0}, "leave those two out"),
        ({"train": {"image": "i"}}, "unknown key 'train.image'"),
        ({"names": 3}, "'names' in own.yaml"),
    ],
)
def test_faults_of_the_configuration_are_named(
    tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **keys)


def test_keys_of_earlier_versions_are_read(tmp_path: Path) -> None:
    for old, new in (
        ({"label_offset": 1}, {"offset": 1, "void": [0]}),
        ({"label_offset": None, "void_value": 0}, {"offset": 1, "void": [0]}),
        ({"label_offset": 0, "void_value": 40}, {"offset": 0, "void": [40]}),
    ):
        assert config(tmp_path, **old) == config(tmp_path, labels=new)
    assert config(tmp_path, label_offset=None, void_value=None).labels is None


@pytest.mark.parametrize("name", preset_names())
def test_presets_are_complete_configurations(tmp_path: Path, name: str) -> None:
    preset = read_preset(name)
    share: dict[str, Any] = {} if "test" in preset or name == "nyudv2" else {"test_share": 0.5}
    if name == "binary":
        share["train"] = {"images": "i", "labels": "m"}
    data = config(tmp_path, preset=name, **share)
    settings = {
        "data": plain(data),
        "model": {"classes": preset["classes"]},
        "resolutions": [64, 32],
        "epochs": 1,
        "batch_size": 2,
        "optim": {"lr": 0.1},
    }
    assert validate(SegmentationConfig, settings, "own.yaml").data == data
    settings["model"] = {"classes": preset["classes"] + 1}
    if name != "nyudv2":  # Its reader knows the classes.
        with pytest.raises(ValueError, match="classes"):
            validate(SegmentationConfig, settings, "own.yaml")


def test_what_is_set_beside_a_preset_wins(tmp_path: Path) -> None:
    data = config(
        tmp_path, preset="voc", train={"images": "J", "labels": "S"}, labels={"offset": 1}
    )
    assert (data.train.images, data.labels.offset) == ("J", 1)  # type: ignore[union-attr]
    assert data.test is not None
    shared = config(tmp_path, preset="camvid", test_share=0.1)
    assert shared.test is None


def test_the_summary_tells_reading_void_and_classes_without_a_pixel(tmp_path: Path) -> None:
    for index in range(300):
        photo(tmp_path, f"i/{index:03d}.png", (1, 4))
        # One sample, which is not among the 256 that are looked at first, has the third class.
        pixels = np.array([[2 if index == 6 else 0, 0, 1, 255]], dtype=np.uint8)
        draw(tmp_path, f"m/{index:03d}.png", pixels)
    keys: dict[str, Any] = {
        **SAME,
        "labels": {"offset": 0, "void": [255]},
    }
    reader = opened(tmp_path, 3, **keys)
    counts = count_labels(reader)
    assert (counts.maps, counts.pixels[2], counts.pixels[255]) == (300, 1, 300)
    assert label_summary(reader, allow_absent=False) == (
        "300 images, labels classes 0..2, void 255 (stated: labels: {offset: 0, void: [255]}); "
        "3 classes, void 25.0 % of the pixels, classes without a pixel: none (in 300 label maps)"
    )
    few = opened(tmp_path, 2, **{**keys, "labels": {"map": {0: 0, 1: 1, 2: 1}, "void": [255]}})
    assert "(in 256 of 300 label maps)" in label_summary(few, allow_absent=False)


def test_an_image_and_a_label_map_of_two_sizes_are_named(tmp_path: Path) -> None:
    photo(tmp_path, "i/a.jpg", (5, 5))
    draw(tmp_path, "m/a.png", values(0, 1, 255))
    where = SAME
    with pytest.raises(ValueError, match=r"a\.jpg has 5x5 pixels and .*a\.png 8x6"):
        _ = opened(tmp_path, 2, **where)[0]


def test_images_of_both_splits_are_refused_unless_that_is_meant(tmp_path: Path) -> None:
    for name in ("a", "b"):
        photo(tmp_path, f"i/{name}.jpg")
        draw(tmp_path, f"m/{name}.png", values(0, 1, 255))
    (tmp_path / "b.txt").write_text("b\n", encoding="utf-8")
    train = {"images": "i", "labels": "m"}
    for split in ("train", "test"):
        with pytest.raises(ValueError, match=r"1 image of the .* samples .*b\.jpg.*allow_shared"):
            opened(tmp_path, 2, split=split, train=train, test={**train, "list": "b.txt"})
    assert len(opened(tmp_path, 2, **SAME)) == 2


@pytest.mark.parametrize("noted", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("square", [True, False])
def test_label_maps_beside_a_noted_orientation_fit_by_size_or_have_to_be_explained(
    tmp_path: Path, noted: int, square: bool
) -> None:
    size = (8, 8) if square else (6, 8)
    raw = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    exif = Pictures.Exif()
    exif[0x0112] = noted
    (tmp_path / "i").mkdir()
    Pictures.fromarray(raw).save(tmp_path / "i/a.png", exif=exif)
    with Pictures.open(tmp_path / "i/a.png") as picture:
        upright = np.asarray(ImageOps.exif_transpose(picture))
    draw(tmp_path, "m/a.png", np.resize(np.array([0, 1, 255], dtype=np.uint8), size))
    keys = {**SAME, "labels": {"offset": 0, "void": [255]}}
    if square or noted < 5:
        with pytest.raises(
            ValueError, match=rf"(?s)EXIF orientation {noted}.*orientation: ignored"
        ):
            _ = opened(tmp_path, 2, **keys)[0]
        applied = opened(tmp_path, 2, **keys, orientation="applied")[0].image
        np.testing.assert_array_equal(applied, upright)
        ignored = opened(tmp_path, 2, **keys, orientation="ignored")[0].image
    else:
        ignored = opened(tmp_path, 2, **keys)[0].image  # Only the pixels as they lie fit.
    np.testing.assert_array_equal(ignored, raw)


def test_images_left_out_are_counted_in_the_summary(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        photo(tmp_path, f"i/{name}.jpg")
    draw(tmp_path, "m/a.png", values(0, 1, 255))
    reader = opened(tmp_path, 2, **SAME, unlabelled="skip")
    assert "1 image (2 without label map left out), " in label_summary(reader, allow_absent=False)


def test_masks_of_two_values_are_one_kind_in_both_splits(tmp_path: Path) -> None:
    for split, value in (("train", 1), ("test", 255)):
        photo(tmp_path, f"i/{split}/a.jpg")
        draw(tmp_path, f"m/{split}/a.png", values(0, value))
    where: dict[str, Any] = {
        split: {"images": f"i/{split}", "labels": f"m/{split}"} for split in ("train", "test")
    }
    with pytest.raises(ValueError, match=r"holds 1 and .* holds 255"):
        opened(tmp_path, 2, preset="binary", **where)


def test_nyudv2_is_the_same_through_these_settings_and_through_its_own_reader(
    tmp_path: Path,
) -> None:
    for index in range(5):
        photo(tmp_path, f"images/{index}.jpg")
        draw(tmp_path, f"labels40/{index}.png", values(*range(index, 41)))
    (tmp_path / "train.txt").write_text("3\n0\n1\n", encoding="utf-8")
    (tmp_path / "test.txt").write_text("4\n2\n", encoding="utf-8")
    where = {"images": "images", "labels": "labels40"}
    general = {
        **{split: {**where, "list": f"{split}.txt"} for split in ("train", "test")},
        "labels": {"offset": 1, "void": [0]},
    }
    for split in ("train", "test"):
        own = open_reader(config(tmp_path, preset="nyudv2"), split, 40)
        same = open_reader(config(tmp_path, **general), split, 40)
        assert own.names == same.names
        for first, second in zip(own, same, strict=True):
            np.testing.assert_array_equal(first.image, second.image)
            np.testing.assert_array_equal(first.labels, second.labels)
