"""Facts about benchmarks/overload.py and http_load.py: everything that is sent is accounted for."""

from __future__ import annotations

import asyncio
import json
import random
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from benchmarks import overload
from benchmarks.http_load import Reply, Server, capacity, load
from rsseg.load import load_checkpoint
from tests.helpers.small_service import encoded, fake_service, serving

LINE = "serving small (classification) at resolutions 64, 48, 32: budget 200 ms, 2 at once, 9 may"


def server_at(address: str) -> Server:
    return Server(urlsplit(address).port or 0, LINE)


def test_line_of_the_server_is_understood() -> None:
    server = Server(1, LINE)
    assert (server.largest, server.workers) == (64, 2)
    assert Server(1, LINE.replace("64, 48, 32", "64")).largest == 64


def test_clients_get_an_answer_to_each_request() -> None:
    service = fake_service(workers=2, budget_ms=1e6)
    with serving(service) as address:
        server = server_at(address)
        assert asyncio.run(capacity(server, encoded("JPEG"), 48, 0.2)) > 0
        replies = asyncio.run(load(server, encoded("JPEG"), 100.0, 0.3, random.Random(0)))
    assert len(replies) > 10
    assert {(reply.status, reply.resolution) for reply in replies} == {(200, 64)}
    assert [reply.at for reply in replies] == sorted(reply.at for reply in replies)


def test_server_that_lowers_the_resolution_has_no_capacity_to_measure() -> None:
    slow = fake_service(lambda _: time.sleep(0.02), budget_ms=1e-3)
    told = r"asked for 64, got .*raise --budget-ms"
    with serving(slow) as address, pytest.raises(ValueError, match=told):
        asyncio.run(capacity(server_at(address), encoded("JPEG"), 64, 1.0))


def test_what_is_not_answered_is_lost() -> None:
    with serving(fake_service()) as address:
        server = server_at(address)
    replies = asyncio.run(load(server, b"x", 100.0, 0.1, random.Random(0)))  # it has stopped
    assert {reply.status for reply in replies} == {0}
    told = overload.summary("after", 100.0, replies)
    assert (told["sent"], told["lost"], told["answered"]) == (len(replies), len(replies), 0)
    assert "after" in overload.table([told])


def phases(*last: int | None, p95: float = 90.0, lost: int = 0) -> list[dict[str, Any]]:
    calm: dict[str, Any] = {"lost": 0, "resolution_each_second": list(last)}
    return [calm, {"lost": lost, "p95_ms": p95, "mean_resolution": 100.0}, calm]


def test_promises_are_judged_one_by_one() -> None:
    def kept(told: list[dict[str, Any]]) -> list[bool]:
        return list(overload.judge(told, budget_ms=100, largest=224).values())

    assert kept(phases(96, 224, 224, None, 224, 224, 224)) == [True] * 4
    assert kept(phases(224, lost=1)) == [False, True, True, True]
    assert kept(phases(224, p95=101)) == [True, False, True, True]
    assert kept(phases(224, 96)) == [True, True, True, False]


def test_phase_is_summed_up() -> None:
    replies = [
        Reply(0.1, 200, 10.0, 64),
        Reply(0.2, 200, 20.0, 32),
        Reply(2.5, 200, 30.0, 32),
        Reply(2.6, 429, 1.0),
        Reply(2.7, 0, 1.0),
        Reply(2.8, 500, 1.0),
    ]
    told = overload.summary("overload", 2.0, replies)
    assert (told["sent"], told["answered"], told["refused"], told["lost"]) == (6, 3, 1, 2)
    assert told["p50_ms"] == 20.0
    assert told["resolution_each_second"] == [48.0, None, 32.0]
    assert json.loads(json.dumps(told)) == told
    first, *_, last = overload.markdown([told]).splitlines()
    assert first == "Up to 4 requests that wait are computed by one pass of the network."
    assert last == "| overload, 3 s | 2.0 | 6 | 3 | 1 | 2 | 20 | 29 | 43 |"


def test_drawn_image_and_network_can_be_served(tmp_path: Path) -> None:
    assert 20_000 < len(overload.drawn_jpeg(0)) < 200_000
    _, _, metadata = load_checkpoint(overload.make_network(tmp_path, "mobilenetv2_035"))
    assert metadata.resolutions == tuple(overload.RESOLUTIONS)
