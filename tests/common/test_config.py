"""Configurations: what is accepted, and that every fault is named with its remedy."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rsseg.common.config import ConfigError, load_config, overridden, plain, validate
from rsseg.training.config import OptimConfig, RunConfig

SMALL: dict[str, Any] = {
    "resolutions": [64, 32],
    "epochs": 2,
    "batch_size": 4,
    "optim": {"lr": 0.1},
}


def fault(values: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        validate(RunConfig, values, "run.yaml")
    return str(caught.value)


def test_numbers_that_yaml_reads_as_text_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "resolutions: [64, 32]\nepochs: 2\nbatch_size: 4\n"
        "optim: {lr: 1e-1, momentum: 0.8, weight_decay: 1e-5}\n"
    )
    config = load_config(RunConfig, path)
    assert (config.optim.lr, config.optim.weight_decay) == (0.1, 1e-5)
    assert config.resolutions == (64, 32)


def test_misspelt_key_is_named_with_its_path_and_the_right_spelling() -> None:
    message = fault({**SMALL, "optim": {"lr": 0.1, "momentm": 0.9}})
    assert message == "unknown key 'optim.momentm' in run.yaml; did you mean 'momentum'?"


def test_all_faults_are_reported_at_once() -> None:
    message = fault({**SMALL, "epoch": 3, "batch_size": "many", "seed": -1, "optim": {}})
    assert "unknown key 'epoch' in run.yaml; did you mean 'epochs'?" in message
    assert "'batch_size' in run.yaml: Input should be a valid integer" in message
    assert "'seed' in run.yaml: Input should be greater than or equal to 0, got -1" in message
    assert "key 'optim.lr' is missing in run.yaml" in message
    assert len(message.splitlines()) == 4


@pytest.mark.parametrize(
    ("resolutions", "expected"),
    [
        ([32, 64], "must run from large to small, got [32, 64]; write [64, 32]"),
        ([5000, 64], "resolution 5000 is not a whole number of pixels from 1 to 4096"),
        ([0], "resolution 0 is not a whole number"),
        ([64, 32.5], "resolution 32.5 is not a whole number"),
        ([], "no resolution given"),
        (["64"], "resolution '64' is not a whole number"),
    ],
)
def test_resolutions_that_cannot_be_used_are_named(resolutions: list[Any], expected: str) -> None:
    message = fault({**SMALL, "resolutions": resolutions})
    assert message.startswith("'resolutions' in run.yaml: ")
    assert expected in message


def test_repeated_resolutions_are_kept() -> None:
    config = validate(RunConfig, {**SMALL, "resolutions": [64, 64]}, "")
    assert tuple(config.resolutions) == (64, 64)
    assert config.resolutions.names == ("64", "64_2")
    assert type(plain(config)["resolutions"]) is list  # As checkpoints hold them.


@pytest.mark.parametrize("schedule", [{"warmup_epochs": 2}, {"kind": "staged", "milestones": [5]}])
def test_schedule_longer_than_the_run_is_refused(schedule: dict[str, Any]) -> None:
    rate = {"optim": {"lr": [0.1, 0.1]}} if "milestones" in schedule else {}
    assert "the run has 2 epochs" in fault({**SMALL, **rate, "schedule": schedule})


def test_run_that_is_too_short_for_its_warmup_names_no_milestones() -> None:
    message = fault({**SMALL, "schedule": {"warmup_epochs": 2.5}})
    assert "warmup_epochs (2.5) must lie below that" in message
    assert "milestones" not in message


def test_unknown_variant_lists_the_known_ones() -> None:
    assert "expected one of ['dense', 'from_largest', 'full'" in fault(
        {**SMALL, "distillation": "fully"}
    )


def test_staged_schedule_needs_one_more_rate_than_milestones() -> None:
    staged = {"kind": "staged", "milestones": [1, 2]}
    many = {**SMALL, "epochs": 9}
    assert "lists 2 learning rates" in fault(
        {**many, "schedule": staged, "optim": {"lr": [0.1, 0.01]}}
    )
    assert "needs a list of learning rates" in fault({**many, "schedule": staged})
    assert "takes no milestones" in fault({**many, "schedule": {**staged, "kind": "cosine"}})
    assert "milestones must rise" in fault(
        {**SMALL, "schedule": {"kind": "staged", "milestones": [2, 2]}}
    )


def test_overrides_win_over_the_file_and_are_checked_like_it() -> None:
    config = overridden(
        RunConfig, SMALL, ["optim.lr=0.05", "resolutions=[48]", "schedule.kind=poly"]
    )
    assert (config.optim.lr, config.resolutions, config.schedule.kind) == (0.05, (48,), "poly")
    with pytest.raises(ConfigError, match=r"unknown key 'optim\.lrr'"):
        overridden(RunConfig, SMALL, ["optim.lrr=1"])
    with pytest.raises(ConfigError, match="--set expects key=value"):
        overridden(RunConfig, SMALL, ["optim.lr"])
    with pytest.raises(ConfigError, match="'epochs' is a value, not a group"):
        overridden(RunConfig, SMALL, ["epochs.first=1"])
    assert SMALL["optim"] == {"lr": 0.1}


def test_key_written_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("epochs: 2\nepochs: 3\n")
    with pytest.raises(ConfigError, match="key 'epochs' is written twice"):
        load_config(RunConfig, path)


@pytest.mark.parametrize("text", ["", "- 1\n", "a: [", "!!python/object/apply:os.system [ls]\n"])
def test_files_that_are_no_configuration_are_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"run\.yaml"):
        load_config(RunConfig, path)


def test_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*gone\.yaml: No such file"):
        load_config(RunConfig, tmp_path / "gone.yaml")


def test_plain_values_of_a_configuration_give_the_same_one() -> None:
    config = validate(RunConfig, {**SMALL, "schedule": {"warmup_epochs": 1}}, "")
    assert validate(RunConfig, plain(config), "") == config


@given(st.text(max_size=200))
def test_any_text_is_a_configuration_or_an_error_of_ours(text: str) -> None:
    with contextlib.suppress(ConfigError):
        overridden(RunConfig, SMALL, [f"seed={text}", f"{text}=1"], source="run.yaml")


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ({"optim": {"lr": 0.1, "Momentum": 0}}, "'optim.Momentum' in run.yaml; did you mean 'mome"),
        (
            {"optim": {"lr": 0.1, "pretrained": 0}},
            "; in 'optim' there are: betas, body_lr, clip_norm, ",
        ),
        ({"lr": 0.1}, "unknown key 'lr' in run.yaml; did you mean 'optim.lr'?"),
        ({"epohcs": 1}, "did you mean 'epochs'?"),
        ({"qwertz": 1}, "unknown key 'qwertz' in run.yaml; there are: adapt, batch_size, "),
    ],
)
def test_suggestion_comes_from_the_block_of_the_key_or_has_its_whole_path(
    values: dict[str, Any], hint: str
) -> None:
    assert hint in fault({**SMALL, **values})


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.momentm=0.9", "unknown key 'optim.momentm' in --set optim.momentm=0.9; did you"),
        ("optim={}", "key 'optim.lr' is missing in --set optim={}"),
        ("seed=-1", "'seed' in --set seed=-1: Input should be greater"),
        ("foo.bar=1", "unknown key 'foo' in --set foo.bar=1; "),
        ("schedule.warmup_epochs=7", "run.yaml with --set schedule.warmup_epochs=7: the run has 2"),
    ],
)
def test_fault_that_was_set_on_the_command_line_names_the_assignment(
    override: str, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        overridden(RunConfig, SMALL, ["workers=1", override], source="run.yaml")
    assert message in str(caught.value).replace("--set workers=1 ", "--set ")


def test_fault_of_the_file_names_the_file_whatever_is_set() -> None:
    values = {**SMALL, "optim": {"lr": 0.1, "momentm": 0.9}}
    with pytest.raises(ConfigError, match=r"^unknown key 'optim.momentm' in run.yaml; did"):
        overridden(RunConfig, values, ["optim.lr=0.2", "seed=1"], source="run.yaml")


@pytest.mark.parametrize("value", ["fast", None])
def test_neither_a_number_nor_a_list_is_one_fault(value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(OptimConfig, {"lr": value}, "a.yaml")
    message = "'lr' in a.yaml: Input should be a number, or a list of numbers, got "
    assert str(caught.value) == f"{message}{value!r}"
