"""A network with one answer to everything: told once for each class, with where and how much."""

from __future__ import annotations

from rsseg.training.constant_output import constant_output_warnings, constant_outputs
from rsseg.training.evaluation import Evaluation
from tests.training.test_loop import Given


class Constant(Given):
    """An evaluator that has seen one answer."""

    def only_answer(self) -> tuple[int, float] | None:
        return None if self.value == 1 else (int(self.value < 0.5), self.value)


def test_resolutions_of_one_answer_share_a_line_that_says_which_and_how_much() -> None:
    values = {"64": 0.25, "32": 0.25, "16": 0.75, "ensemble": 1.0}
    evaluators = {name: Constant(value) for name, value in values.items()}
    outputs = constant_outputs(Evaluation(evaluators, None), ["wall", "floor"])
    assert outputs == {
        "64": {"predicted": "floor", "share": 0.25},
        "32": {"predicted": "floor", "share": 0.25},
        "16": {"predicted": "wall", "share": 0.75},
    }
    first, second = constant_output_warnings(outputs)
    assert first.startswith("at 64, 32 the network predicts 'floor' for the whole test set, of whi")
    assert "25.0 %" in first
    assert "likely causes: " in first
    assert second.startswith("at 16 the network predicts 'wall'")


def test_network_with_several_answers_is_not_warned_of() -> None:
    evaluation = Evaluation({"64": Constant(1.0)}, None)
    assert constant_output_warnings(constant_outputs(evaluation, ["wall"])) == []
