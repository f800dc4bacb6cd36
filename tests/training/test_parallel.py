"""Who averages the gradients of a step, and what is refused; the averages: test_distributed.py."""

from __future__ import annotations

import pytest
import torch

from rsseg.common.config import ConfigError
from rsseg.common.distributed import LostProcessError, lost_process_errors
from rsseg.training.parallel import LogitsAndScores, check_compression, data_parallel
from tests.helpers.small_runs import draw, small_config, small_net

CLOSED = "[/src/gloo/gloo/transport/tcp/pair.cc:561] Connection closed by peer [127.0.0.1]:3242"


def test_one_process_trains_the_network_itself() -> None:
    assert data_parallel(small_net(), small_config()) is None


def test_scores_come_with_the_logits_of_their_resolutions() -> None:
    net = small_net().eval()
    assert net.scores is not None
    with torch.no_grad():
        net.scores.copy_(torch.tensor([2.0, 3.0]))
    views = [view.float() for view in draw(0)[0]]
    logits, scores = LogitsAndScores(net)(views)
    assert scores is net.scores
    assert [z.shape for z in logits] == [(2, 5, 16, 16), (2, 5, 8, 8)]
    logits, scores = LogitsAndScores(net)(views[1:], [1])
    assert scores.tolist() == [3.0]
    torch.testing.assert_close(logits[0], net.predict(views[1]))
    assert LogitsAndScores(small_net(scores=False).eval())(views)[1] is None


@pytest.mark.parametrize(
    ("sandwich", "resolutions", "expected"),
    [(True, [16, 12, 10, 8], True), (True, [16, 12, 8], False), (False, [16, 12, 10, 8], False)],
)
def test_sandwich_of_three_resolutions_leaves_none_out(
    sandwich: bool, resolutions: list[int], expected: bool
) -> None:
    config = small_config(sandwich=sandwich, resolutions=resolutions)
    assert config.leaves_out_resolutions is expected


def test_compression_without_effect_is_refused() -> None:
    with pytest.raises(ConfigError, match="'bf16' has no effect with memory 'two_pass'"):
        small_config(gradient_compression="bf16", memory="two_pass")
    with pytest.raises(ValueError, match="'bf16' is for what several processes send each other"):
        check_compression(small_config(gradient_compression="bf16"))
    check_compression(small_config())


def test_only_what_the_connection_says_counts_as_a_lost_process() -> None:
    with pytest.raises(LostProcessError, match="Connection closed by peer"), lost_process_errors():
        raise RuntimeError(CLOSED)
    with pytest.raises(RuntimeError, match=r"^shapes differ$") as caught, lost_process_errors():
        raise RuntimeError("shapes differ")
    assert not isinstance(caught.value, LostProcessError)
    with pytest.raises(LostProcessError, match=r"^told before$"), lost_process_errors():
        raise LostProcessError("told before")
