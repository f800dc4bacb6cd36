"""Every family of timm, its norms and tables of positions private: what NORMALISATION.md says."""

from __future__ import annotations

import re
import warnings

import pytest

from tests.helpers.timm_survey import BEGIN, DOC, END, Row, families, survey, table

LINES = {
    line.split("|")[1].strip(): line
    for line in DOC.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].splitlines()
    if re.match(r"\| \w+ \| ", line) and not line.startswith("| family")
}


def test_nineteen_of_twenty_families_that_take_two_sizes_are_ok() -> None:
    results = [line.split("|")[7].strip() for line in LINES.values()]
    assert results.count("ok") >= 0.95 * sum(r == "ok" or r.startswith("fault") for r in results)


def test_table_has_a_line_for_a_row() -> None:
    row = Row("vit", "vit_tiny", "fixed size", {"layer": 25}, 1, (224,), {"img_size": 224}, "a | b")
    expected = "| vit | vit_tiny | 25 layer | 1 | 224 | img_size: 224 | fixed size: a / b |"
    assert table([row]).splitlines()[-1] == expected


@pytest.mark.slow
@pytest.mark.parametrize("family", families())
def test_family_keeps_its_outputs_to_the_bit(family: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        row = survey(family)
    if family in LINES:
        assert LINES[family].split("|")[7].strip().partition(":")[0] == row.verdict
