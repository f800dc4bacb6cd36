"""Facts about benchmarks/attacks.py: what it sends is what it says, and it tells who survived."""

from __future__ import annotations

import asyncio
import contextlib
import json
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image as Pictures

from benchmarks import attacks
from benchmarks.attacks import Outcome, bombs, damaged, flat_png, odd, request, row
from benchmarks.http_load import Server
from rsseg.runtime.serve.body import Limits, RefusedError
from rsseg.runtime.serve.decoding import open_photo
from tests.helpers.small_checkpoint import write_checkpoint
from tests.helpers.small_service import fake_service, serving


def test_flat_png_is_small_and_within_the_limit_of_pixels() -> None:
    content = flat_png(7600, 5000)
    assert len(content) < 10_000
    assert open_photo(content, Limits()).pixels == 38_000_000


def test_bombs_are_pngs_that_are_refused_or_stay_small() -> None:
    huge, *hidden = bombs()
    with pytest.raises(RefusedError, match="expected at most 40 million pixels"):
        open_photo(huge, Limits())
    for content in hidden:
        assert content.startswith(b"\x89PNG")
        assert len(content) < 300_000
        with contextlib.suppress(RefusedError):
            assert open_photo(content, Limits()).decode().pixels.shape == (64, 64, 3)


def test_odd_images_are_images_and_damaged_ones_differ() -> None:
    images = list(odd())
    assert len(images) == 32
    for content in images:
        with Pictures.open(BytesIO(content)) as picture:
            assert picture.width >= 1
    assert len(list(damaged())) == 200


def test_request_has_the_length_of_its_body() -> None:
    head, _, body = request(b"abc").partition(b"\r\n\r\n")
    assert body == b"abc"
    assert head.split(b"\r\n")[0] == b"POST /predict HTTP/1.1"
    assert b"Content-Length: 3" in head


def test_row_is_markdown() -> None:
    assert row(Outcome("bombs", 4, 3, "seen")) == "| bombs | 4 | 3 | seen |"


def test_attacks_on_a_service_in_this_process_are_survived() -> None:
    with serving(fake_service(budget_ms=1e5)) as address:
        server = Server(int(address.rpartition(":")[2]), "resolutions 64, 48: budget")
        for attack in (attacks.repeated, attacks.broken, attacks.headers, attacks.pipelined):
            outcome = asyncio.run(attack(server))
            assert outcome.survived == outcome.tried > 0, outcome


@pytest.mark.slow
def test_service_survives_every_attack(tmp_path: Path) -> None:
    network, out = write_checkpoint(tmp_path / "last.pt"), tmp_path / "attacks.json"
    assert attacks.main([str(network), "--budget-ms", "5000", "--out", str(out)]) == 0
    assert len(json.loads(out.read_text(encoding="utf-8"))["attacks"]) == len(attacks.attacks())
