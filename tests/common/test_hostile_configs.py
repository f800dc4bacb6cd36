"""Configurations from anywhere: read as what they say, or refused by name, soon and in little room.

The bytes of a valid file are damaged, and its values replaced by others of any kind.
"""

from __future__ import annotations

import copy
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from classification.config import ClassificationConfig
from rsseg.common.config import ConfigError, load_config, overridden, plain
from rsseg.common.files import read_json, read_text
from rsseg.common.yaml_files import read_yaml
from rsseg.segmentation.config import SegmentationConfig
from rsseg.training.config import RunConfig
from tests.helpers.hostile import Edit, answer, attempts, damaged, edits
from tests.helpers.small_scripts import refusal
from train_cls import SCRIPT

VALID = """
data: {root: somewhere}          # a comment
resolutions: [64, 32]
epochs: 12
batch_size: 4
seed: 0x10
optim: {lr: [1.0e-1, 0.01], momentum: 0.9}
schedule: {kind: staged, milestones: [7]}
preprocessing: &fit {fit: aspect, crop_ratios: {64: 0.9}}
augmentation:
  scale: [0.5, 2]
"""
KINDS = (SegmentationConfig, ClassificationConfig)


def configured(path: Path) -> dict[str, Any]:
    """Read a configuration; give its values, having written them as a run does."""
    values = plain(load_config(SegmentationConfig, path))
    yaml.safe_dump(values)
    return values


@attempts(600)
@given(edits())
def test_damaged_file_is_refused_or_still_valid(tmp_path: Path, changes: list[Edit]) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(damaged(VALID.encode(), changes))
    values = answer(lambda: configured(path), path)
    if values is not None:  # Valid means valid: what it was read as is taken again.
        assert plain(overridden(SegmentationConfig, values, [])) == values


NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, -1, 2**63, 1e308, float("nan")])
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=20) | st.binary(max_size=5)
VALUES = st.recursive(
    SCALARS | st.dates() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(SCALARS, inner, max_size=4),
    max_leaves=12,
)
PATHS = [(key,) for key in yaml.safe_load(VALID)] + [
    ("optim", "lr"),
    *[("schedule", "kind"), ("schedule", "milestones"), ("preprocessing", "crop_ratios")],
    *[("preprocessing", "mean"), ("model", "classes"), ("model", "name"), ("precision",)],
    *[("augmentation", "scale"), ("data", "limit"), ("workers",), ("device",), ("compile",)],
]


@attempts(300)
@given(st.dictionaries(st.sampled_from(PATHS), VALUES, max_size=3), st.booleans())
@example({("epochs",): 10**400}, False)
@example({("preprocessing", "crop_ratios"): {10**5000: 0.5}}, False)
def test_values_of_any_kind_are_valid_or_named(
    tmp_path: Path, replaced: dict[tuple[str, ...], Any], seldom: bool
) -> None:
    values: dict[Any, Any] = yaml.safe_load(VALID)
    for keys, value in replaced.items():
        inner = values
        for key in keys[:-1]:
            inner = inner.setdefault(key, {}) if isinstance(inner, dict) else {}
        if isinstance(inner, dict):
            inner[keys[-1]] = value
    path, kind = tmp_path / "run.yaml", KINDS[seldom]
    try:
        path.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    except (ValueError, RecursionError):  # Numbers that Python does not write, broken characters.
        return
    config = answer(lambda: load_config(kind, path), path)
    if config is not None:
        assert plain(config)


@attempts(150)
@given(st.sampled_from([".".join(path) for path in PATHS]) | st.text(), st.text())
@example("epochs", "[" * 3000)
@example("seed", "9" * 5000)
@example("seed", "!!int ''")
@example("seed", "!!timestamp x")
@example("seed", "2001-99-99")
def test_settings_of_the_command_line_are_valid_or_named(key: str, text: str) -> None:
    values = yaml.safe_load(VALID)
    before = copy.deepcopy(values)
    answer(
        lambda: overridden(SegmentationConfig, values, [f"{key}={text}"], source="the --set"),
        Path("--set"),
    )
    assert values == before


def laughs(lines: int) -> str:
    """Aliases of aliases: a few hundred bytes that stand for 9 to the power of `lines` texts."""
    text = "a0: &a0 [ha, ha, ha]\n"
    for line in range(1, lines):
        text += f"a{line}: &a{line} [{', '.join([f'*a{line - 1}'] * 9)}]\n"
    return text


LONG = "'" + "ha" * 50_000 + "'"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (laughs(12), "characters with its aliases written out"),
        (f"a: &a {LONG}\nb: [{', '.join(['*a'] * 50)}]", "characters with its aliases written"),
        ("epochs: &a [*a]", "more than 32 deep"),
        ("epochs: &a {b: *a}", "more than 32 deep"),
        ("epochs: " + "[" * 200 + "]" * 200, "more than 32 deep"),
        ("epochs: " + "[" * 2000, "recursion"),
        ("a:\n" * 100_000, "262144 bytes"),
        ("a: &a {x: 1}\n<<: [*a, *a]", "merge"),
        ("epochs: !!python/object/apply:os.system ['true']", "could not determine"),
        ("epochs: !!python/name:os.system", "could not determine"),
        ("epochs: !!int ''", "string index"),
        ("epochs: !!bool perhaps", "perhaps"),
        ("epochs: 0001-01-01 00:00:00 +99:99", "valid YAML"),
        ("epochs: " + "9" * 5000, "digits"),
        ("epochs: 3\nepochs: 4", "key 'epochs' is written twice"),
        ("? [a]\n: 3", "unhashable"),
        ("- 3", "does not hold a mapping"),
        ("", "does not hold a mapping"),
        ("epochs: '\x00'", "special characters"),
        ("--- {}\n--- {}", "single document"),
    ],
)
def test_absurd_file_is_refused_in_one_line(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"run\.yaml.*{reason}") as caught:
        read_yaml(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "epochs: 0x" + "f" * 6000,
        "epochs: 1" + ":59" * 6000,
        "? 0x" + "f" * 900 + "\n: 1",
        "resolutions: [" + ", ".join(["32"] * 50_000) + "]",
        "optim: {lr: [" + ", ".join(["oh"] * 50_000) + "]}",
        f"device: [{LONG}]",
        "\n".join(f"key{index}: 1" for index in range(5000)),
    ],
)
def test_absurd_value_is_named_in_few_words(tmp_path: Path, line: str) -> None:
    path = tmp_path / "run.yaml"
    kept = [text for text in VALID.splitlines() if text[:5] != line[:5]]
    path.write_text("\n".join([*kept, line]), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"run\.yaml") as caught:
        load_config(SegmentationConfig, path)
    assert len(str(caught.value)) < 20_000


def test_aliases_of_aliases_take_no_room(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(laughs(30), encoding="utf-8")
    tracemalloc.start()
    answer(lambda: load_config(SegmentationConfig, path), path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2**28


def test_aliases_of_sensible_size_are_read(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("a: &a {lr: 0.1}\nb: [*a, *a]", encoding="utf-8")
    assert read_yaml(path) == {"a": {"lr": 0.1}, "b": [{"lr": 0.1}] * 2}


def test_training_script_tells_an_absurd_file_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "laughs.yaml"
    path.write_text(laughs(20), encoding="utf-8")
    assert "laughs.yaml is not valid YAML" in refusal(SCRIPT, capsys, path)


@pytest.mark.parametrize("field", ["epochs", "batch_size", "workers", "evaluate_every"])
def test_counts_beyond_any_use_are_refused(field: str) -> None:
    values = {"resolutions": [64], "epochs": 1, "batch_size": 1, "optim": {"lr": 0.1}}
    with pytest.raises(ConfigError, match=f"'{field}' in run.yaml: Input should be less"):
        overridden(RunConfig, {**values, field: 10**30}, [], source="run.yaml")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no file without end")
def test_file_without_end_is_refused() -> None:
    with pytest.raises(ConfigError, match="/dev/zero: more than 262144 bytes"):
        read_yaml(Path("/dev/zero"))
    with pytest.raises(ValueError, match="/dev/zero: more than 1000 bytes"):
        read_text(Path("/dev/zero"), largest=1000)


JSON = '{"label_offset": 1, "void_value": 0, "more": [1.5e3, null, {"a": "b\\u00e4"}]}'


@attempts(150)
@given(edits())
@example([("cut", 0, b"\0"), ("insert", 0, b"[" * 100_000)])
@example([("cut", 0, b"\0"), ("insert", 0, b"9" * 5000)])
def test_damaged_json_is_named(tmp_path: Path, changes: list[Edit]) -> None:
    path = tmp_path / "facts.json"
    path.write_bytes(damaged(JSON.encode(), changes))
    answer(lambda: read_json(path), path)
