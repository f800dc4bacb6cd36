"""Texts of messages: the closest names, and one thing that is not several."""

from __future__ import annotations

import pytest

from rsseg.common.messages import check_name, close_names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pretrained", []),
        ("momentm", ["momentum"]),
        ("MOMENTUM", ["momentum"]),
        ("batch-size", ["batch_size"]),
        ("", []),
    ],
)
def test_only_names_that_look_alike_are_suggested(name: str, expected: list[str]) -> None:
    assert close_names(name, ["train", "momentum", "batch_size", "lr"]) == expected


def test_unknown_name_without_a_close_one_lists_some_of_a_thousand() -> None:
    with pytest.raises(ValueError, match=r"unknown network 'x'; there are: n0, n1, .*and 970 more"):
        check_name("network", "x", [f"n{i}" for i in range(1000)])
