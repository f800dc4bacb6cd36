"""Ground truth of flat folders and names of classes: every accepted form, and named faults."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from datasets.imagenet.labels import read_class_names, read_flat_labels
from datasets.imagenet.synsets import read_synsets

FILES = [f"ILSVRC2012_val_{index:08}.JPEG" for index in range(1, 5)]
FOLDERS = ("n01", "n02", "n10")
FIELDS = (
    *("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children"),
    *("children", "wordnet_height", "num_train_images"),
)


def write(folder: Path, *lines: str, name: str = "labels.txt") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def labels_of(path: Path, folders: tuple[str, ...] = FOLDERS, classes: int = 3) -> list[int]:
    return [int(label) for label in read_flat_labels(path, FILES, folders, classes)[0]]


def write_meta(folder: Path, *wnids: str, packed: bool = False) -> Path:
    """Write the synsets in the kit's layout: leaves from ID 1 on, then one that groups them."""
    synsets = np.empty((len(wnids) + 1, 1), dtype=[(field, object) for field in FIELDS])
    for index, wnid in enumerate(wnids):
        synsets[index, 0] = (index + 1, wnid, "words", "gloss", 0, np.zeros(0), 0, 1300)
    children = np.arange(1, 1 + len(wnids), dtype=float)
    synsets[-1, 0] = (len(wnids) + 1, "n00", "all", "", len(wnids), children, 1, 0)
    savemat(folder / "meta.mat", {"synsets": synsets}, do_compression=packed)
    return folder / "meta.mat"


@pytest.mark.parametrize("separator", [" ", "\t", ",", "  \t", ", "])
@pytest.mark.parametrize("suffix", ["", ".JPEG", ".png"])
@pytest.mark.parametrize("folder", ["", "val/"])
def test_lines_name_file_and_class_folder_in_any_order(
    tmp_path: Path, separator: str, suffix: str, folder: str
) -> None:
    pairs = [(3, "n10"), (0, "n02"), (2, "n01"), (1, "n10")]
    lines = [f"{folder}{FILES[index][:-5]}{suffix}{separator}{name}" for index, name in pairs]
    assert labels_of(write(tmp_path, "", *lines, "")) == [1, 2, 0, 2]


@pytest.mark.parametrize("folders", [FOLDERS, ()])
def test_kaggles_list_is_read_with_its_header_and_boxes(
    tmp_path: Path, folders: tuple[str, ...]
) -> None:
    lines = ["ImageId,PredictionString", f"{FILES[0][:-5]},n02 85 1 499 272 "]
    lines += [f"{FILES[3][:-5]},n10 1 2 3 4 n10 5 6 7 8 ", f"{FILES[1][:-5]},n01 0 0 9 9 "]
    path = write(tmp_path, *lines, f"{FILES[2][:-5]},n01 0 0 9 9 ")
    labels, order = read_flat_labels(path, FILES, folders, 3)
    assert (labels.tolist(), order) == ([1, 0, 0, 2], FOLDERS)
    assert labels.dtype == np.int64


@pytest.mark.parametrize("folders", [FOLDERS, ()])
def test_class_may_be_an_index(tmp_path: Path, folders: tuple[str, ...]) -> None:
    lines = [f"{file} {index}" for file, index in zip(FILES, (2, 0, 2, 0), strict=True)]
    labels, order = read_flat_labels(write(tmp_path, *lines), FILES, folders, 3)
    assert labels.tolist() == [2, 0, 2, 0]
    assert order == (folders or ("0", "1", "2"))
    with pytest.raises(ValueError, match=r"1 unknown class \(3\); the 3 known .* 0, 1, 2"):
        labels_of(write(tmp_path, *lines[1:], f"{FILES[0]} 3"), folders)


def test_folders_whose_names_are_numbers_are_no_indices(tmp_path: Path) -> None:
    lines = [f"{file} {name}" for file, name in zip(FILES, ("0", "10", "2", "10"), strict=True)]
    assert labels_of(write(tmp_path, *lines), ("0", "10", "2")) == [0, 1, 2, 1]


def test_folders_and_files_may_have_blanks_in_their_names(tmp_path: Path) -> None:
    path = write(tmp_path, "a b.jpg,golf ball", "c d,tench")
    labels, _ = read_flat_labels(path, ["a b.jpg", "c d.jpg"], ("golf ball", "tench"), 2)
    assert labels.tolist() == [0, 1]


def test_lines_and_images_that_do_not_meet_are_counted_and_named(tmp_path: Path) -> None:
    lines = [f"{FILES[0]} n01", f"{FILES[0]} n01", "other.JPEG n01", "foreign n02", f"{FILES[3]} 0"]
    with pytest.raises(ValueError, match=r"5 lines for 4 images") as caught:
        labels_of(write(tmp_path, *lines))
    for part in (
        "2 images without a line (ILSVRC2012_val_00000002.JPEG, ILSVRC2012_val_00000003.JPEG)",
        "2 lines without an image (foreign, other.JPEG)",
        "1 repeated (ILSVRC2012_val_00000001.JPEG)",
    ):
        assert part in str(caught.value)


def test_images_of_one_stem_need_a_line_each(tmp_path: Path) -> None:
    files = ["a.jpg", "a.png"]
    path = write(tmp_path, "a.png n02", "a.jpg n01")
    assert read_flat_labels(path, files, FOLDERS, 3)[0].tolist() == [0, 1]
    with pytest.raises(ValueError, match="1 images without a line"):
        read_flat_labels(write(tmp_path, "a n02"), files, FOLDERS, 3)


def test_unknown_class_folders_are_named(tmp_path: Path) -> None:
    lines = [f"{file} n0{index}" for index, file in enumerate(FILES)]
    with pytest.raises(ValueError, match=r"labels\.txt: 2 unknown classes \(n00, n03\)"):
        labels_of(write(tmp_path, *lines))


def test_classes_that_the_file_tells_must_be_as_many_as_set(tmp_path: Path) -> None:
    path = write(tmp_path, *(f"{file} n0{index % 2}" for index, file in enumerate(FILES)))
    assert labels_of(path, (), 2) == [0, 1, 0, 1]
    with pytest.raises(ValueError, match=r"tells 2 classes \(n00, n01\) and model\.classes is 10"):
        labels_of(path, (), 10)


@pytest.mark.parametrize("line", ["n01", f"{FILES[1]},", ",n01"])
def test_line_that_lacks_a_half_is_quoted(tmp_path: Path, line: str) -> None:
    with pytest.raises(ValueError, match=rf"line '{line}' lacks file or class; expected lines of"):
        labels_of(write(tmp_path, f"{FILES[0]} n01", line))


@pytest.mark.parametrize("folders", [FOLDERS, ()])
def test_official_numbers_are_read_through_the_kits_synsets(
    tmp_path: Path, folders: tuple[str, ...]
) -> None:
    write_meta(tmp_path, "n10", "n01", "n02")  # IDs 1, 2, 3
    labels, order = read_flat_labels(write(tmp_path, "1", "3", "2", "1"), FILES, folders, 3)
    assert labels.tolist() == [2, 1, 0, 2]
    assert order == FOLDERS


def test_one_synset_is_enough(tmp_path: Path) -> None:
    assert read_synsets(write_meta(tmp_path, "n10")) == {1: "n10"}


@pytest.mark.parametrize("number", ["0", "4"])
def test_number_of_no_class_is_refused(tmp_path: Path, number: str) -> None:
    write_meta(tmp_path, "n10", "n01", "n02")  # 4 groups them
    with pytest.raises(ValueError, match=rf": {number} is not the ILSVRC2012_ID .*holds 1 to 3"):
        labels_of(write(tmp_path, "1", number, "2", "1"))


def test_numbers_must_be_as_many_as_images(tmp_path: Path) -> None:
    write_meta(tmp_path, "n10", "n01", "n02")
    with pytest.raises(ValueError, match=r"labels\.txt: 3 lines for 4 images"):
        labels_of(write(tmp_path, "1", "3", "2"))


def test_numbers_without_their_key_tell_where_it_comes_from(tmp_path: Path) -> None:
    path = write(tmp_path, "1", "3", "2", "1")
    with pytest.raises(FileNotFoundError, match=r"meta\.mat: missing.*ILSVRC2012_devkit_t12/data"):
        labels_of(path)


@pytest.mark.parametrize("content", ["", "text " * 99, "MATLAB 7.3" + " " * 114 + "\0\2IM\x7fHDF"])
def test_foreign_or_damaged_key_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "meta.mat").write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=r"meta\.mat: not the meta\.mat of ILSVRC2012_devkit_t12"):
        read_synsets(tmp_path / "meta.mat")


def test_cut_key_and_key_without_synsets_are_named(tmp_path: Path) -> None:
    path = write_meta(tmp_path, "n10", "n01")
    path.write_bytes(path.read_bytes()[:-20])
    for other in ({"x": np.zeros(3)}, {"synsets": np.zeros(3)}):
        with pytest.raises(ValueError, match=r"meta\.mat: not the meta\.mat"):
            read_synsets(path)
        savemat(path, other)
    with pytest.raises(ValueError, match=r"meta\.mat: not the meta\.mat"):
        read_synsets(path)


@pytest.mark.parametrize("separator", [" ", "\t", " \t "])
def test_names_are_found_by_their_folders(tmp_path: Path, separator: str) -> None:
    lines = [f"n10{separator}ray", f"n02{separator}white shark", f"n01{separator}tench, Tinca"]
    assert read_class_names(write(tmp_path, *lines), FOLDERS) == (
        *("tench, Tinca", "white shark"),
        "ray",
    )


def test_names_without_folders_go_by_their_order(tmp_path: Path) -> None:
    path = write(tmp_path, "\ufefftench", "white shark", "", "ray")
    assert read_class_names(path, FOLDERS) == ("tench", "white shark", "ray")
    with pytest.raises(ValueError, match=r"labels\.txt: 3 names for 2 classes.*\(n01, n02\)"):
        read_class_names(path, FOLDERS[:2])


def test_folders_that_are_names_may_stand_alone(tmp_path: Path) -> None:
    path = write(tmp_path, "tench", "golf ball", "church a house")
    folders = ("church", "golf ball", "tench")
    assert read_class_names(path, folders) == ("a house", "golf ball", "tench")


def test_faults_in_the_names_are_listed(tmp_path: Path) -> None:
    path = write(tmp_path, "n01 tench", "n01 tench", "n07 eel")
    with pytest.raises(ValueError, match=r"labels\.txt: of the 3 class folders") as caught:
        read_class_names(path, FOLDERS)
    for part in ("1 unknown (n07)", "2 missing (n02, n10)", "1 named twice (n01)"):
        assert part in str(caught.value)


def test_file_without_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"labels\.txt: empty; fill it, or set data\.names"):
        read_class_names(write(tmp_path, "", " "), FOLDERS)
    (tmp_path / "labels.txt").write_bytes("tête".encode("latin-1"))
    with pytest.raises(ValueError, match=r"labels\.txt: not UTF-8 text"):
        read_class_names(tmp_path / "labels.txt", FOLDERS)
