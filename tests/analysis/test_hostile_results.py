"""Results from anywhere: a table of numbers, or the name of the file."""

from __future__ import annotations

import json
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rsseg.analysis.accuracy_plot import read_curve
from rsseg.analysis.correctness import read_answers
from rsseg.analysis.curves import read_log
from rsseg.analysis.results import comparison_table, read_comparison
from rsseg.cli import main as cli
from rsseg.common.files import RunError
from tests.analysis.test_disagreement import NAMES, write_run
from tests.helpers.hostile import Edit, answer, attempts, damaged, edits, instead

RESULTS: dict[str, Any] = {
    "metrics": {"64": {"top1": 0.5, "top5": 0.75}, "32": {"top1": 0.25, "top5": 0.5}},
    "alpha": {"64": 0.75, "32": 0.25},
    "macs": {"64": 2_000_000_000, "32": 500_000_000},
}


def table(path: Path) -> str:
    shown = comparison_table(read_comparison([path]))
    assert shown.splitlines()[1].split()[0] == "run"
    return shown


@attempts(200)
@given(edits())
@example(instead(b"[" * 100_000))
@example(instead(b"{" * 100_000))
@example(instead(json.dumps(RESULTS).replace("0.75", "1" + "0" * 400).encode()))
@example(instead(json.dumps(RESULTS).replace("500000000", "1" + "0" * 400).encode()))
def test_damaged_results_are_named_or_shown(tmp_path: Path, changes: list[Edit]) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(damaged(json.dumps(RESULTS).encode(), changes))
    answer(lambda: table(path), path)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@attempts(200)
@given(
    st.sampled_from(
        [
            (),
            ("metrics",),
            ("metrics", "64"),
            ("metrics", "64", "top1"),
            ("alpha",),
            ("alpha", "64"),
            ("macs",),
            ("macs", "32"),
        ]
    ),
    ANY,
)
@example(("metrics", "64", "top1"), [0] * 10)
@example(("metrics", "64", "top1"), "0.5")
def test_results_of_any_values_are_named_or_shown(
    tmp_path: Path, keys: tuple[str, ...], value: Any
) -> None:
    held: dict[str, Any] = {"": json.loads(json.dumps(RESULTS))}
    inner = held
    for key in ("", *keys)[:-1]:
        inner = inner[key]
    inner[("", *keys)[-1]] = value
    path = tmp_path / "results.json"
    path.write_text(json.dumps(held[""]), encoding="utf-8")
    answer(lambda: table(path), path)


def test_list_for_a_metric_is_not_multiplied(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"metrics": {"64": {"top1": [0] * 10**6, "top5": 1}}}))
    tracemalloc.start()
    with pytest.raises(RunError, match=r"results\.json as results: list is not a share"):
        comparison_table(read_comparison([path]))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2**27


def test_command_tells_absurd_results_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.json"
    path.write_text("[" * 100_000, encoding="utf-8")
    assert cli.main(["compare", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"rsseg compare: cannot read {path} as results")


@attempts(200)
@given(edits())
def test_damaged_answers_are_named_or_the_same(tmp_path: Path, changes: list[Edit]) -> None:
    run = tmp_path / "run"
    if not run.exists():
        write_run(run, {"64": "1100", "32": "1010"})
        (tmp_path / "whole.npz").write_bytes((run / "correctness.npz").read_bytes())
    path = run / "correctness.npz"
    path.write_bytes(damaged((tmp_path / "whole.npz").read_bytes(), changes))
    answers = answer(lambda: read_answers(run), path)
    if answers is not None:
        assert answers.names.tolist() == sorted(NAMES)
        expected = {"64": [True, True, False, False], "32": [True, False, True, False]}
        for key, value in answers.correct.items():
            assert value.tolist() == expected[key]


def npy(shape: str, kind: str, content: bytes = b"") -> bytes:
    """Write an array whose header may claim anything."""
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text.encode() + content


TWO = npy("(2,)", "|b1", b"\0\1")
AB = npy("(2,)", "<U1", "ab".encode("utf-32-le"))


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        (
            {"names": npy("(1000000000000,)", "<U9"), "correct_64": TWO},
            "claims 36000000000000 bytes",
        ),
        (
            {"names": npy("(1000000000000,)", "<U0"), "correct_64": TWO},
            "claims 1000000000000 bytes",
        ),
        ({"names": AB, "correct_64": npy("(10**9,)", "|b1")}, "damaged"),
        ({"names": AB, "correct_64": npy("(1000000, 1000000)", "|b1")}, "claims 1000000000000"),
        ({"names": npy("(-2,)", "<U1"), "correct_64": TWO}, "damaged"),
        ({"names": npy("(2,)", "<U1", b"\xff" * 8), "correct_64": TWO}, "damaged"),
        ({"names": npy("(2,)", "|O", b"\x80\4N." * 9), "correct_64": TWO}, "plain arrays"),
        ({"names": npy("(" * 500 + ")" * 500, "<U1"), "correct_64": TWO}, "damaged"),
        ({"names": AB, "correct_64": b""}, "damaged"),
        ({"names": AB}, "expected names, and correct_R"),
        ({"correct_64": TWO}, "it has no array 'names'"),
    ],
)
def test_absurd_answers_are_refused(tmp_path: Path, arrays: dict[str, bytes], reason: str) -> None:
    with zipfile.ZipFile(tmp_path / "correctness.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in arrays.items():
            archive.writestr(f"{name}.npy", content)
    with pytest.raises(RunError, match=rf"correctness\.npz .*{reason}"):
        read_answers(tmp_path)


def test_answers_that_unpack_without_end_take_no_room(tmp_path: Path) -> None:
    with (
        zipfile.ZipFile(tmp_path / "correctness.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("names.npy", "w", force_zip64=True) as stream,
    ):
        stream.write(npy("(70000000,)", "<U4"))
        for _ in range(70):
            stream.write(bytes(16 * 10**6))
    tracemalloc.start()
    with pytest.raises(RunError, match=r"names\.npy claims 1120000000 bytes"):
        read_answers(tmp_path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2**24


def test_resolution_of_thousands_of_digits_is_no_number(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {"9" * 5000: "1100", "64": "1010"})
    assert cli.main(["disagreement", str(run), "--resolutions", "64"]) == 0


DEEP = "[" * 100_000


def test_logs_and_curves_nested_without_end_are_named(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(DEEP)
    (tmp_path / "results.json").write_text(DEEP)
    with pytest.raises(RunError, match=r"log\.jsonl holds a line that is not JSON"):
        read_log(tmp_path)
    with pytest.raises(RunError, match=r"results\.json"):
        read_curve(tmp_path, None, "macs")
