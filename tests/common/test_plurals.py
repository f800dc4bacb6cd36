"""A number before a noun goes through `counted`: "1 epochs" is found in the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from rsseg.common.messages import counted

ROOT = Path(__file__).parents[2]
NOUNS = (
    "batches|classes|epochs|faults|files|folders|frames|images|learning rates|lines|names|networks|"
    "processes|resolutions|results|rows|samples|sets|stages|steps|tables|threads|workers"
)
# "the 5 images", "1 to 255 classes", "fewer than 3 steps": a number that is a sum, or a range.
BEFORE = re.compile(r"(?:\bthe|\bto|\bthan|\bmost|\bfirst|[x.])\s?$")


def plurals(path: Path) -> Iterator[str]:
    """Yield the places where an f-string writes a variable number before a plural."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.JoinedStr):
            continue
        before = ""
        for part, after in zip(node.values, [*node.values[1:], None], strict=True):
            text = after.value if isinstance(after, ast.Constant) else ""
            value = part.value if isinstance(part, ast.FormattedValue) else None
            if value is None or ast.unparse(value).strip("_").isupper():
                before = str(part.value) if isinstance(part, ast.Constant) else ""
                continue
            if re.match(rf" (?:{NOUNS})\b(?!/)", str(text)) and not BEFORE.search(before):
                yield f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(value)}{text!r}"
            before = str(part.value) if isinstance(part, ast.Constant) else ""


def test_no_message_writes_a_number_before_a_plural() -> None:
    folders = ("rsseg", "datasets", "classification", "benchmarks")
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    places = [place for path in paths for place in plurals(path)]
    assert places == []


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (1, "epoch", "1 epoch"),
        (0, "epoch", "0 epochs"),
        (2, "class", "2 classes"),
        (2, "batch", "2 batches"),
        (1, "learning rate", "1 learning rate"),
        (2, "query", "2 queries"),
        (2, "array", "2 arrays"),
    ],
)
def test_one_thing_is_no_plural(count: int, noun: str, text: str) -> None:
    assert counted(count, noun) == text
