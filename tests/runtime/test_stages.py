"""Facts about rsseg/runtime/stages.py: milliseconds by stage."""

from __future__ import annotations

import pytest

from rsseg.runtime.stages import NAMES, Stages, medians, stage_titles, summed


def test_total_is_the_sum_of_all_stages_and_a_prediction_lies_between_bytes() -> None:
    stages = Stages(decode=1, view=2, network=4, answer=8, encode=16)
    assert (stages.total, stages.prediction) == (31, 14)
    assert stages.rounded(1) == dict(zip(NAMES, (1, 2, 4, 8, 16), strict=True))


def test_sums_and_medians_are_those_of_each_stage() -> None:
    several = [Stages(network=1, view=9), Stages(network=5), Stages(network=3, decode=3)]
    assert summed(several) == Stages(decode=3, view=9, network=9)
    assert medians(several) == Stages(network=3)


@pytest.mark.parametrize(("dense", "answer"), [(True, "label map"), (False, "classes")])
def test_answer_is_called_by_what_it_is(dense: bool, answer: str) -> None:
    assert stage_titles(dense=dense) == ["decode", "view", "network", answer, "encode"]
