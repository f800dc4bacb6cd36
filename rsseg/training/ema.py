"""The moving average of a network's weights, BatchNorm statistics included.

Every BatchNorm set is averaged, so the average switches as the network does.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from rsseg.common.checkpoint import load_weights
from rsseg.switchable.net import SwitchableNet


class WeightAverage:
    """An exponential moving average of a network.

    Args:
        net: The network that is trained; its state is the first average.
        decay: Share of the average that stays at each step, 0..1.
    """

    def __init__(self, net: SwitchableNet, decay: float) -> None:
        average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        self._model = AveragedModel(net, multi_avg_fn=average, use_buffers=True)
        # The first update would copy the network; the beginning counts as the first average.
        self._model.n_averaged.fill_(1)

    @property
    def net(self) -> SwitchableNet:
        """The averaged network, to evaluate and to keep."""
        net = self._model.module
        assert isinstance(net, SwitchableNet)
        return net

    def update(self, net: SwitchableNet) -> None:
        """Move the average towards the network after a step."""
        self._model.update_parameters(net)

    def load(self, state: Mapping[str, Tensor], source: str) -> None:
        """Continue from the averaged weights of a checkpoint; `source` names it in messages."""
        load_weights(self.net, state, source)
