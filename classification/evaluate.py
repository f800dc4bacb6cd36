"""Top-1 and top-5 accuracy of one set of logits over a data set, with the answer to every image.

The answers are kept, so that what one network knows and another does not (Table 1 of the paper)
can be counted later, without any network; and how sure each was, for a confidence cascade.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsseg.common.distributed import all_gather_object


class ClassificationEvaluator:
    """Counts how often the true class is the best, and among the five best.

    A row of logits that is not finite is a wrong answer. Where other classes have the same logit
    as the true one, the earlier class is ranked higher.
    """

    def __init__(self) -> None:
        self._ranks: list[Tensor] = []
        self._predicted: list[Tensor] = []
        self._margins: list[Tensor] = []

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Add a batch.

        Args:
            logits: Shape (B, K).
            target: Classes 0..K-1, shape (B,).
        """
        classes = torch.arange(logits.shape[1], device=logits.device)
        true = logits.gather(1, target[:, None])
        better = (logits > true) | ((logits == true) & (classes < target[:, None]))
        rank = better.sum(dim=1)
        rank[~logits.isfinite().all(dim=1)] = logits.shape[1]
        self._ranks.append(rank)
        self._predicted.append(logits.argmax(dim=1))
        self._margins.append(softmax_margins(logits))

    def share(self) -> None:
        """Gather the answers of all processes, in their order; every process has to call this."""
        own = (self.ranks, self.predicted, self.margins)
        parts = zip(*all_gather_object(own), strict=True)
        ranks, predicted, margins = (torch.from_numpy(np.concatenate(part)) for part in parts)
        self._ranks, self._predicted, self._margins = [ranks], [predicted], [margins]

    @property
    def ranks(self) -> NDArray[np.int64]:
        """Rank of the true class of each image, 0 for the best, shape (N,)."""
        return _joined(self._ranks, torch.int64).numpy()

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The best class of each image, shape (N,)."""
        return _joined(self._predicted, torch.int64).numpy()

    @property
    def margins(self) -> NDArray[np.float32]:
        """Probability of the best class of each image less that of the second, shape (N,)."""
        return _joined(self._margins, torch.float32).numpy()

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each image was classified correctly, shape (N,)."""
        correct: NDArray[np.bool_] = self.ranks == 0
        return correct

    def result(self) -> dict[str, float]:
        """Compute the shares of all images so far: top1, top5 (0..1), and the number of images.

        Raises:
            ValueError: If it has seen no image.
        """
        ranks = self.ranks
        if not ranks.size:
            raise ValueError("no image to evaluate: the test set is empty or unreadable")
        return {
            "top1": float((ranks < 1).mean()),
            "top5": float((ranks < 5).mean()),
            "images": float(ranks.size),
        }

    def only_answer(self) -> tuple[int, float] | None:
        """Return the class of all predicted images though others occur, see `Evaluator`."""
        answers = np.unique(self.predicted)
        share = float(self.correct.mean()) if answers.size else 1.0
        if answers.size != 1 or share == 1 or self.predicted.size < 2:  # One image has one answer.
            return None
        return int(answers[0]), share


def softmax_margins(logits: Tensor) -> Tensor:
    r"""Compute the margin of each answer, which says how sure it is.

    .. math:: m = p_1 - p_2, \quad p = \mathrm{softmax}(z)

    with the largest and the second largest probability; 1 where there is a single class.

    Args:
        logits: Logits z, shape (B, K).

    Returns:
        The margins, 0..1, float32, shape (B,); 0 of a row that is not finite.
    """
    best = logits.float().softmax(dim=1).topk(min(2, logits.shape[1]), dim=1).values
    margins = best[:, 0] - best[:, 1] if logits.shape[1] > 1 else best[:, 0]
    return margins.nan_to_num(0.0)


def _joined(parts: list[Tensor], dtype: torch.dtype) -> Tensor:
    return torch.cat(parts).cpu() if parts else torch.zeros(0, dtype=dtype)
