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
from benchmarks.attacks import Outcome, row
from benchmarks.hostile.images import bombs, damaged, disguised, flat_png, odd
from benchmarks.hostile.requests import request, strange
from benchmarks.http_load import Server
from rsseg.runtime.serve.body import Limits, RefusedError
from rsseg.runtime.serve.decoding import open_photo
from rsseg.runtime.serve.guard import known_hosts
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
    with serving(fake_service(budget_ms=1e5, limits=Limits(seconds=2))) as address:
        server = Server(int(address.rpartition(":")[2]), "resolutions 64, 48: budget")
        for attack in (
            attacks.repeated,
            attacks.broken,
            attacks.many_parts,
            attacks.disguises,
            attacks.headers,
            attacks.smuggled,
            attacks.expecting,
            attacks.odd_queries,
            attacks.pipelined,
        ):
            outcome = asyncio.run(attack(server))
            assert outcome.survived == outcome.tried > 0, outcome


def test_strange_requests_find_nothing_but_the_pages() -> None:
    with serving(fake_service(), known_hosts("127.0.0.1")) as address:
        server = Server(int(address.rpartition(":")[2]), "resolutions 64, 48: budget")
        outcome = asyncio.run(attacks.other_requests(server))
        assert outcome.survived == outcome.tried > 20, outcome
        statuses = [asyncio.run(attacks.send(server, content))[0] for content in strange()]
    assert statuses[:12] == [404] * 12  # other files
    assert statuses[13:21] == [405] * 8  # other methods than GET and HEAD


def test_other_files_are_none_of_the_four_formats_and_lying_photos_are() -> None:
    contents = disguised()
    for content in contents[:-5]:
        with pytest.raises(RefusedError, match="not a JPEG, PNG, WebP or BMP"):
            open_photo(content, Limits())
    for content in contents[-5:]:
        assert sorted(open_photo(content, Limits()).decode().pixels.shape) == [3, 48, 64]


@pytest.mark.slow
def test_service_survives_every_attack(tmp_path: Path) -> None:
    network, out = write_checkpoint(tmp_path / "last.pt"), tmp_path / "attacks.json"
    assert attacks.main([str(network), "--budget-ms", "5000", "--out", str(out)]) == 0
    assert len(json.loads(out.read_text(encoding="utf-8"))["attacks"]) == len(attacks.attacks())
