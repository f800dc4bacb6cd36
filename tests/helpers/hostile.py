"""Damage to files, drawn by hypothesis, and what a reader may answer to it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

Edit = tuple[str, int, bytes]
Read = TypeVar("Read")


def attempts(count: int) -> settings:
    """Draw so many cases; a reader that hangs goes past the deadline."""
    # One file after another is damaged in the same folder.
    folder = HealthCheck.function_scoped_fixture
    return settings(
        max_examples=count,
        deadline=timedelta(seconds=60),
        suppress_health_check=[folder, HealthCheck.too_slow],
    )


def edits() -> st.SearchStrategy[list[Edit]]:
    """Draw changes of a few bytes: flipped, written over, put in, taken out, or the end cut off.

    Half of them are near the beginning, where files say how large they are.
    """
    kinds = st.sampled_from(["flip", "write", "insert", "delete", "cut"])
    place = st.integers(0, 127) | st.integers(0, 2**16)
    patch = st.binary(min_size=1, max_size=8) | st.sampled_from([b"\0", b"\xff" * 4, b"\x7f"])
    return st.lists(st.tuples(kinds, place, patch), min_size=1, max_size=4)


def damaged(content: bytes, changes: list[Edit]) -> bytes:
    """Apply changes to the bytes of a file."""
    for kind, anywhere, patch in changes:
        place = anywhere % (len(content) + 1)
        before, after = content[:place], content[place:]
        if kind == "flip" and after:
            content = before + bytes([after[0] ^ 1 << patch[0] % 8]) + after[1:]
        elif kind == "write":
            content = before + patch[: len(after)] + after[len(patch) :]
        elif kind == "insert":
            content = before + patch + after
        elif kind == "delete":
            content = before + after[len(patch) :]
        elif kind == "cut":
            content = before
    return content


def instead(content: bytes) -> list[Edit]:
    """Replace a whole file."""
    return [("cut", 0, b"\0"), ("insert", 0, content)]


def answer(read: Callable[[], Read], path: Path) -> Read | None:
    """Give what a reader returns, or None if it refuses in our way: with the name of the file."""
    try:
        return read()
    except (ValueError, OSError) as error:
        told = str(error)
    assert path.name in told
    return None


class Program:
    """What pickles as an order to make a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)
