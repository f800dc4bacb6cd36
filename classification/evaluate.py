"""Top-1 and top-5 accuracy of one set of logits over a data set, with the answer to every image.

The answers are kept, so that what one network knows and another does not (Table 1 of the paper)
can be counted later, without any network.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsseg.distributed import gathered


class ClassificationEvaluator:
    """Counts how often the true class is the best, and among the five best.

    A row of logits that is not finite is a wrong answer. Where other classes have the same logit
    as the true one, the earlier class is ranked higher.
    """

    def __init__(self) -> None:
        self._ranks: list[Tensor] = []
        self._predicted: list[Tensor] = []

    def update(self, logits: Tensor, target: Tensor) -> None:
        """Take in a batch.

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

    def share(self) -> None:
        """Take in the answers of all processes, in their order; all have to call this."""
        mine = torch.from_numpy(np.stack([self.ranks, self.predicted]))
        ranks, predicted = torch.cat(gathered(mine), dim=1)
        self._ranks, self._predicted = [ranks], [predicted]

    @property
    def ranks(self) -> NDArray[np.int64]:
        """Rank of the true class of each image, 0 for the best, shape (N,)."""
        return _joined(self._ranks)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The best class of each image, shape (N,)."""
        return _joined(self._predicted)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each image was classified correctly, shape (N,)."""
        correct: NDArray[np.bool_] = self.ranks == 0
        return correct

    def result(self) -> dict[str, float]:
        """Compute the shares of all images so far: top1, top5 (0..1), and the number of images.

        Raises:
            ValueError: If there was no image.
        """
        ranks = self.ranks
        if not ranks.size:
            raise ValueError("no image to evaluate: the test set is empty or unreadable")
        return {
            "top1": float((ranks < 1).mean()),
            "top5": float((ranks < 5).mean()),
            "images": float(ranks.size),
        }


def _joined(parts: list[Tensor]) -> NDArray[np.int64]:
    return torch.cat(parts).cpu().numpy() if parts else np.zeros(0, np.int64)
