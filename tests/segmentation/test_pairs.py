"""Which label map belongs to which image, in the layouts that users have."""

from __future__ import annotations

from pathlib import Path

import pytest

from rsseg.segmentation.pairs import SplitConfig, find_pairs


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def names(root: Path, **where: str) -> list[tuple[str, str, str]]:
    def below(path: Path) -> str:
        return str(path.relative_to(root))

    pairs, _ = find_pairs(root, SplitConfig(**where))
    return [(pair.name, below(pair.image), below(pair.label)) for pair in pairs]


LAYOUTS: dict[str, tuple[dict[str, str], list[str], list[tuple[str, str, str]]]] = {
    "two folders": (
        {"images": "img", "labels": "gt"},
        ["img/b.jpg", "img/a.PNG", "gt/a.png", "gt/b.png", "img/Thumbs.db"],
        [("a", "img/a.PNG", "gt/a.png"), ("b", "img/b.jpg", "gt/b.png")],
    ),
    "nested folders": (
        {"images": "img", "labels": "gt"},
        ["img/x/a.jpg", "img/y/a.jpg", "gt/x/a.png", "gt/y/a.png"],
        [("x/a", "img/x/a.jpg", "gt/x/a.png"), ("y/a", "img/y/a.jpg", "gt/y/a.png")],
    ),
    "one folder and a suffix": (
        {"images": "*.png", "labels": "*_mask.png"},
        ["000834.png", "000834_mask.png", "1.png", "1_mask.PNG"],
        [("000834", "000834.png", "000834_mask.png"), ("1", "1.png", "1_mask.PNG")],
    ),
    "suffixes in nested cities": (
        {
            "images": "leftImg8bit/train/*/*_leftImg8bit.png",
            "labels": "gtFine/train/*/*_gtFine_labelIds.png",
        },
        [
            "leftImg8bit/train/aachen/aachen_0_leftImg8bit.png",
            "gtFine/train/aachen/aachen_0_gtFine_labelIds.png",
            "gtFine/train/aachen/aachen_0_gtFine_color.png",
            "gtFine/train/aachen/aachen_0_gtFine_polygons.json",
        ],
        [
            (
                "aachen/aachen_0",
                "leftImg8bit/train/aachen/aachen_0_leftImg8bit.png",
                "gtFine/train/aachen/aachen_0_gtFine_labelIds.png",
            )
        ],
    ),
    "folders of any depth": (
        {"images": "data/**/rgb/*.jpg", "labels": "data/**/sem/*.png"},
        ["data/a/b/rgb/1.jpg", "data/a/b/sem/1.png", "data/c/rgb/1.jpg", "data/c/sem/1.png"],
        [
            ("a/b/1", "data/a/b/rgb/1.jpg", "data/a/b/sem/1.png"),
            ("c/1", "data/c/rgb/1.jpg", "data/c/sem/1.png"),
        ],
    ),
    "prefixes": (
        {"images": "i/img_*.jpg", "labels": "m/seg_*.png"},
        ["i/img_7.jpg", "m/seg_7.png"],
        [("7", "i/img_7.jpg", "m/seg_7.png")],
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_images_and_label_maps_pair_by_what_the_wildcards_stand_for(
    tmp_path: Path, layout: str
) -> None:
    where, files, expected = LAYOUTS[layout]
    assert names(touch(tmp_path, *files), **where) == expected


@pytest.mark.parametrize(
    "line",
    [
        *("b", "b.jpg", "JPEGImages/b.jpg", "JPEGImages/b.jpg SegmentationClass/b.png"),
        *("JPEGImages/b.jpg\tSegmentationClass/b.png", "JPEGImages/b.jpg,SegmentationClass/b.png"),
        "/VOC2012/JPEGImages/b.jpg /VOC2012/SegmentationClass/b.png",
    ],
)
@pytest.mark.parametrize("folders", [True, False])
def test_a_list_names_samples_in_one_column_or_two(
    tmp_path: Path, line: str, folders: bool
) -> None:
    touch(tmp_path, "JPEGImages/a.jpg", "JPEGImages/b.jpg", "SegmentationClass/b.png")
    (tmp_path / "train.txt").write_text(f"# comment\n\n{line}\n", encoding="utf-8")
    where = {"images": "JPEGImages", "labels": "SegmentationClass"} if folders else {}
    if not folders and " " not in line and "\t" not in line and "," not in line:
        with pytest.raises(FileNotFoundError, match=r"train\.txt: 1 line of 1 without a sample"):
            names(tmp_path, list="train.txt")
        return
    (pair,) = names(tmp_path, list="train.txt", **where)
    assert pair[0].endswith("b")
    assert pair[1:] == ("JPEGImages/b.jpg", "SegmentationClass/b.png")


def test_a_list_may_name_its_columns_and_files_with_spaces(tmp_path: Path) -> None:
    touch(tmp_path, "i/my cat.jpg", "m/my cat.png")
    (tmp_path / "l.csv").write_text("image,mask\ni/my cat.jpg,m/my cat.png\n", encoding="utf-8")
    assert names(tmp_path, list="l.csv") == [("i/my cat", "i/my cat.jpg", "m/my cat.png")]
    (tmp_path / "n.txt").write_text("my cat\n", encoding="utf-8")
    expected = [("my cat", "i/my cat.jpg", "m/my cat.png")]
    assert names(tmp_path, images="i", labels="m", list="n.txt") == expected


def test_a_listed_path_of_another_folder_is_no_name_of_this_one(tmp_path: Path) -> None:
    touch(tmp_path, "train/a.jpg", "train_labels/a.png", "val/a.jpg")
    (tmp_path / "l.txt").write_text("val/a.jpg\n", encoding="utf-8")
    with pytest.raises(FileNotFoundError, match=r"'val/a\.jpg' was not found"):
        names(tmp_path, images="train", labels="train_labels", list="l.txt")


def test_images_without_label_map_are_refused_or_left_out_and_counted(tmp_path: Path) -> None:
    touch(tmp_path, "i/a.jpg", "i/b.jpg", "m/a.png")
    with pytest.raises(ValueError, match=r"1 of 2 images in .*i have no label map.*\(b\); add"):
        names(tmp_path, images="i", labels="m")
    pairs, skipped = find_pairs(tmp_path, SplitConfig(images="i", labels="m"), skip=True)
    assert ([pair.name for pair in pairs], skipped) == (["a"], 1)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["i/a.jpg", "m/a_mask.png"], r"images are named as a, label maps as a_mask; write both"),
        (["i/a.jpg", "m/a.png", "m/b.png"], r"1 of 2 label maps in .*m have no image"),
        (["i/a.jpg", "i/a.png", "m/a.png"], r"a has several images"),
        (["i/a.txt", "m/a.png"], r"i: no images \(\.avif"),
        (["i/a.jpg", "m/a.txt"], r"m: no label maps"),
        (["i/a.jpg"], r"m: no such folder"),
    ],
)
def test_what_does_not_pair_is_named_with_the_remedy(
    tmp_path: Path, files: list[str], message: str
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        names(touch(tmp_path, *files), images="i", labels="m")


def test_half_a_split_is_refused() -> None:
    with pytest.raises(ValueError, match="labels is given and images is not"):
        SplitConfig(labels="m")
    with pytest.raises(ValueError, match="images is given and labels is not"):
        find_pairs(Path(), SplitConfig(images="i"))
    with pytest.raises(ValueError, match="give images and labels, or a list"):
        SplitConfig()


def test_links_that_lead_back_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "i/a.jpg", "m/a.png")
    (tmp_path / "i" / "loop").symlink_to(tmp_path / "i", target_is_directory=True)
    assert names(tmp_path, images="i", labels="m") == [("a", "i/a.jpg", "m/a.png")]


@pytest.mark.parametrize("first", ["x", "images/x.jpg labels/x.png", "image2 mask2"])
def test_a_first_line_that_names_no_sample_is_a_fault_and_no_head(
    tmp_path: Path, first: str
) -> None:
    touch(tmp_path, "images/a.jpg", "labels/a.png")
    rest = "images/a.jpg labels/a.png" if " " in first else "a"
    (tmp_path / "l.txt").write_text(f"{first}\n{rest}\n", encoding="utf-8")
    with pytest.raises(FileNotFoundError, match=rf"1 line of 2 without a sample: '{first}'"):
        names(tmp_path, images="images", labels="labels", list="l.txt")


def test_the_second_column_of_a_list_is_obeyed(tmp_path: Path) -> None:
    touch(tmp_path, "i/a/1.jpg", "i/b/1.jpg", "m/a/1.png", "m/b/1.png")
    (tmp_path / "l.txt").write_text("i/a/1.jpg m/b/1.png\n", encoding="utf-8")
    assert names(tmp_path, images="i", labels="m", list="l.txt") == [
        ("i/a/1", "i/a/1.jpg", "m/b/1.png")
    ]
    (tmp_path / "l.txt").write_text("i/a/1.jpg anything\n", encoding="utf-8")
    with pytest.raises(FileNotFoundError, match=r"'i/a/1\.jpg anything' was not found"):
        names(tmp_path, images="i", labels="m", list="l.txt")


@pytest.mark.parametrize("prefix", ["", "/data/set/", "/data/val/"])
def test_a_path_of_another_split_is_never_read_as_one_of_this(tmp_path: Path, prefix: str) -> None:
    touch(tmp_path, "images/a.jpg", "labels/a.png", "val/images/b.jpg")
    line = f"{prefix}val/images/a.jpg {prefix}val/labels/a.png"
    (tmp_path / "l.txt").write_text(line, encoding="utf-8")
    with pytest.raises(FileNotFoundError, match="was not found"):
        names(tmp_path, list="l.txt")
    (tmp_path / "l.txt").write_text("val/images/b.jpg val/labels/b.png", encoding="utf-8")
    with pytest.raises(FileNotFoundError, match="was not found"):
        names(tmp_path, list="l.txt")


def test_paths_of_another_machine_lose_the_same_folders_in_every_line(tmp_path: Path) -> None:
    touch(tmp_path, "images/a.jpg", "labels/a.png", "x/images/b.jpg", "x/labels/b.png")
    lines = [
        f"/d/set/{p}images/{n}.jpg /d/set/{p}labels/{n}.png" for p, n in (("", "a"), ("x/", "b"))
    ]
    (tmp_path / "l.txt").write_text("\n".join(lines), encoding="utf-8")
    assert [name for name, _, _ in names(tmp_path, list="l.txt")] == [
        "d/set/images/a",
        "d/set/x/images/b",
    ]
    (tmp_path / "l.txt").write_text(
        "\n".join([lines[0], lines[1].replace("/d/", "/e/")]), encoding="utf-8"
    )
    with pytest.raises(FileNotFoundError, match="1 line of 2 without a sample"):
        names(tmp_path, list="l.txt")
