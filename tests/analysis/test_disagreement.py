"""Facts about rsseg/analysis/disagreement.py: Table 1's matrix, and `rsseg disagreement`."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rsseg.analysis.correctness import read_answers
from rsseg.analysis.disagreement import disagreement, layout, right_and_wrong
from rsseg.cli import main as cli
from rsseg.common.files import RunError

NAMES = ["a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg"]


def write_run(path: Path, correct: dict[str, str], names: Sequence[str] = NAMES) -> Path:
    """Write the answers of a run: a string such as "1100" for each resolution."""
    arrays: dict[str, NDArray[Any]] = {"names": np.asarray(names, dtype=np.str_)}
    for key, word in correct.items():
        arrays[f"correct_{key}"] = np.array([character == "1" for character in word])
        arrays[f"predicted_{key}"] = np.zeros(len(word), np.int32)
    path.mkdir(parents=True)
    write_npz(path, arrays)
    return path


def write_npz(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    np.savez_compressed(path / "correctness.npz", **arrays)  # type: ignore[arg-type]


def test_matrix_by_hand() -> None:
    correct = np.array([[1, 1, 0, 0], [1, 0, 1, 1], [0, 0, 0, 0]], dtype=np.bool_)
    expected = [[0, 50, 0], [25, 0, 0], [50, 75, 0]]
    np.testing.assert_array_equal(right_and_wrong(correct), expected)


@st.composite
def answers(draw: st.DrawFn) -> NDArray[np.bool_]:
    members, images = draw(st.integers(1, 5)), draw(st.integers(1, 30))
    flat = draw(st.lists(st.booleans(), min_size=members * images, max_size=members * images))
    return np.array(flat, dtype=np.bool_).reshape(members, images)


@given(answers())
def test_entries_count_images_and_differ_by_the_accuracies(correct: NDArray[np.bool_]) -> None:
    matrix = right_and_wrong(correct)
    assert (matrix.diagonal() == 0).all()
    members, images = correct.shape
    for a in range(members):
        for b in range(members):
            counted = sum(correct[b, i] and not correct[a, i] for i in range(images))
            assert matrix[a, b] == pytest.approx(100 * counted / images)
            difference = 100 * (correct[b].mean() - correct[a].mean())
            assert matrix[a, b] - matrix[b, a] == pytest.approx(difference)


def test_rows_are_the_resolutions_of_every_run(tmp_path: Path) -> None:
    first = write_run(tmp_path / "rs", {"64": "1110", "32": "1000", "ensemble": "1111"})
    second = write_run(tmp_path / "i", {"32": "0011"})
    table = disagreement([first, second])
    assert table.members == (("rs", "64"), ("rs", "32"), ("i", "32"))
    assert table.images == 4
    assert table.accuracy.tolist() == [75, 25, 50]
    assert table.matrix.tolist() == [[0, 0, 25], [50, 0, 50], [50, 25, 0]]


def test_images_are_aligned_by_name(tmp_path: Path) -> None:
    order = [2, 0, 3, 1]
    word = "1100"
    first = write_run(tmp_path / "a", {"64": word})
    names, moved = [NAMES[i] for i in order], "".join(word[i] for i in order)
    second = write_run(tmp_path / "b", {"64": moved}, names)
    assert not disagreement([first, second]).matrix.any()


def test_resolutions_and_ensemble_are_selected(tmp_path: Path) -> None:
    words = {"64": "1110", "64_2": "1100", "32": "1000", "ensemble": "1111"}
    run = write_run(tmp_path / "rs", words)
    other = write_run(tmp_path / "i", {"32": "0000"})

    def members(
        *runs: Path, resolutions: list[int] | None = None, ensemble: bool = False
    ) -> list[str]:
        table = disagreement(runs, resolutions=resolutions, ensemble=ensemble)
        return [resolution for _, resolution in table.members]

    assert members(run, resolutions=[64]) == ["64", "64_2"]
    assert members(run, resolutions=[32], ensemble=True) == ["32", "ensemble"]
    assert members(run, other, resolutions=[64, 32]) == ["64", "64_2", "32", "32"]
    with pytest.raises(RunError, match=r"i was tested at 32, none of which is asked for"):
        members(run, other, resolutions=[64])
    with pytest.raises(RunError, match=r"no run was tested at resolution 48; there are \[64, 32\]"):
        members(run, other, resolutions=[64, 48])
    with pytest.raises(RunError, match="no run holds the answers of an ensemble"):
        members(other, ensemble=True)


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / seed / "rs", {"64": "1111"}) for seed in ("s0", "s1")]
    assert [model for model, _ in disagreement(runs).members] == ["s0/rs", "s1/rs"]
    with pytest.raises(RunError, match="the same run is given twice"):
        disagreement([runs[0], tmp_path / "s1" / ".." / "s0" / "rs"])


def test_other_images_are_counted_and_one_is_named(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", {"64": "1111"})
    second = write_run(tmp_path / "b", {"64": "1111"}, [*NAMES[:3], "c/9.jpg"])
    with pytest.raises(RunError) as caught:
        disagreement([first, second])
    assert f"{first} and {second} were tested on other images: 2 names" in str(caught.value)
    assert f"such as 'b/2.jpg' in {first}" in str(caught.value)


def test_names_that_repeat_are_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", {"64": "111"}, ["x", "y", "x"])
    with pytest.raises(RunError, match="several images named 'x'"):
        read_answers(run)


def test_folder_without_answers_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds no correctness\.npz; give the folder of a class"):
        read_answers(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 half", "cut", "pickle", "npy"])
def test_damaged_file_is_named(tmp_path: Path, content: bytes | str) -> None:
    run = write_run(tmp_path / "a", {"64": "1111"})
    path = run / "correctness.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "cut":
        path.write_bytes(path.read_bytes()[:-30])
    elif content == "pickle":
        np.savez(path, names=np.array([{"run": "me"}], dtype=object))
    else:
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    with pytest.raises(RunError, match="is damaged or holds no answers of a run") as caught:
        read_answers(run)
    assert str(path) in str(caught.value)
    assert "allow_pickle" not in str(caught.value)


@pytest.mark.parametrize(
    "arrays",
    [
        {"correct_64": np.ones(4, dtype=np.int32)},
        {"correct_64": np.ones(3, dtype=np.bool_)},
        {"predicted_64": np.ones(4, dtype=np.int32)},
        {"names": np.zeros(4), "correct_64": np.ones(4, dtype=np.bool_)},
        {"names": np.zeros(0, np.str_), "correct_64": np.ones(0, dtype=np.bool_)},
    ],
)
def test_arrays_of_another_kind_are_told(tmp_path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    write_npz(tmp_path, {"names": np.asarray(NAMES), **arrays})
    with pytest.raises(RunError, match=r"holds names .*; expected names, and correct_R, bool"):
        read_answers(tmp_path)


def test_layout_numbers_columns_like_rows(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "rs", {"64": "1110", "32": "1000"})]
    runs.append(write_run(tmp_path / "inet_32", {"32": "0011"}))
    assert layout(disagreement(runs)).splitlines() == [
        "4 images; right at the column and wrong at the row, in percent",
        "      model    resolution  accuracy    (1)    (2)    (3)",
        " (1)  rs               64      75.0    0.0    0.0   25.0",
        " (2)  rs               32      25.0   50.0    0.0   50.0",
        " (3)  inet_32          32      50.0   50.0   25.0    0.0",
    ]


def test_verb_prints_and_writes_the_matrix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "rs", {"64": "1110", "32": "1000", "ensemble": "1111"})
    out = tmp_path / "table.csv"
    command = ["disagreement", str(run), "--out", str(out)]
    assert cli.main(command) == 0
    assert capsys.readouterr().out == f"{layout(disagreement([run]))}\nmatrix: {out}\n"
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows[1] == {
        **{"model": "rs", "resolution": "32", "accuracy": "25.0"},
        **{"rs 64": "50.0", "rs 32": "0.0"},
    }
    assert cli.main(command) == 2
    assert "table.csv exists; choose another name, or give --overwrite" in capsys.readouterr().err
    assert cli.main([*command, "--overwrite", "--ensemble", "--resolutions", "32"]) == 0
    assert out.read_text(encoding="utf-8").startswith("model,resolution,accuracy,rs 32,rs ensemble")


def test_verb_names_what_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["disagreement", str(tmp_path / "gone")]) == 2
    assert "rsseg disagreement: " in capsys.readouterr().err
