"""Networks that give one answer to everything: outputs in an evaluation, and put into words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from rsseg.common.messages import percent
from rsseg.training.evaluation import Evaluation


class ConstantOutput(TypedDict):
    """The one answer of a network at a resolution.

    predicted: name of the class.
    share: share of the test set that has this class, 0..1.
    """

    predicted: str
    share: float


def constant_outputs(evaluation: Evaluation[Any], classes: Sequence[str]) -> dict[str, Any]:
    """Return, by resolution, the one class that is predicted everywhere though others occur.

    Args:
        evaluation: The evaluators by name of the resolution.
        classes: Names of the classes.

    Returns:
        A `ConstantOutput` for each resolution (or "ensemble") that has one; empty where all is
        well.
    """
    outputs: dict[str, ConstantOutput] = {}
    for name, evaluator in evaluation.evaluators.items():
        only = evaluator.only_answer()
        if only is not None:
            index, share = only
            outputs[name] = ConstantOutput(predicted=classes[index], share=share)
    return dict(outputs)


def constant_output_warnings(outputs: Mapping[str, ConstantOutput]) -> list[str]:
    """Return one line for each class that a network predicts everywhere.

    Args:
        outputs: As `constant_outputs` returns them.
    """
    by_answer: dict[tuple[str, float], list[str]] = {}
    for name, output in outputs.items():
        by_answer.setdefault((output["predicted"], output["share"]), []).append(name)
    return [
        f"at {', '.join(names)} the network predicts '{predicted}' for the whole test set, of "
        f"which {percent(share, unit=' %')} is: it tells no classes apart; likely causes: too few "
        "steps, a learning rate that is too high or too low, labels that are read wrongly, or "
        "mean and std of other weights"
        for (predicted, share), names in by_answer.items()
    ]
