"""Texts for messages: lists, tables, the message of an error, the closest of the known names."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Sequence
from typing import Final

_CLOSE: Final = 0.72  # share of letters in common; "unte" and "unet" have 0.75
_MOST_NAMES: Final = 30  # of all valid ones; timm alone knows a thousand


def message_of(error: BaseException) -> str:
    r"""Return an error's message; that of a worker process without its traceback.

    Example:
        >>> text = "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback"
        >>> message_of(ValueError(text + " ...\nValueError: a.png: not an image\n"))
        'a.png: not an image'
    """
    text = str(error)
    if not text.startswith("Caught "):
        return text
    last = list(re.finditer(r"^[\w.]*(?:Error|Exception): ", text, re.MULTILINE))
    return text[last[-1].end() :].strip() if last else text


def first_line(error: BaseException) -> str:
    r"""Return the first line of an error's message, or the error's type if it has no message.

    Example:
        >>> first_line(ValueError("sizes differ\n  at layer 3")), first_line(KeyError())
        ('sizes differ', 'KeyError')
    """
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def text_table(rows: Sequence[Sequence[str]], align: str = "<>") -> str:
    """Lay out rows of cells as text, two spaces between columns.

    Args:
        rows: Cells of each line, as many in every line; the first line is the head.
        align: "<" (to the left) or ">" for each column; the last one holds for all further ones.

    Returns:
        One line for each row, without spaces at the end.

    Example:
        >>> print(text_table([["network", "top 1"], ["resnet18", "73.1"]]))
        network   top 1
        resnet18   73.1
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    signs = align.ljust(len(widths), align[-1])
    return "\n".join(
        "  ".join(f"{cell:{s}{w}}" for cell, s, w in zip(row, signs, widths, strict=False)).rstrip()
        for row in rows
    )


def markdown_table(rows: Iterable[Sequence[str]]) -> str:
    """Lay out rows of cells as a table of Markdown.

    Args:
        rows: Cells of each line, as many in every line; the first line is the head.

    Returns:
        One line for each row, and one below the head.

    Example:
        >>> print(markdown_table([["network", "top 1"], ["resnet18", "73.1"]]))
        | network | top 1 |
        | --- | --- |
        | resnet18 | 73.1 |
    """
    head, *rest = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rest))


def counted(count: int, noun: str) -> str:
    """Write a number of things: one of them is no plural.

    Example:
        >>> counted(1, "epoch"), counted(0, "image"), counted(2, "class"), counted(3, "query")
        ('1 epoch', '0 images', '2 classes', '3 queries')
    """
    return f"{count} {noun if count == 1 else _plural(noun)}"


def _plural(noun: str) -> str:
    if noun.endswith(("s", "x", "tch", "sh")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def percent(share: float | None, *, unit: str = "") -> str:
    """Write a share for people: in percent, with one decimal; "-" where there is none.

    Tables, pictures and pages show percent; JSON and CSV hold shares, 0..1.

    Example:
        >>> percent(0.7154), percent(1, unit=" %"), percent(None)
        ('71.5', '100.0 %', '-')
    """
    return "-" if share is None or math.isnan(share) else f"{100 * share:.1f}{unit}"


def listed(names: Iterable[str], most: int = 8) -> str:
    """Write the first names in alphabetical order, and how many more there are.

    Example:
        >>> listed(["d", "a", "c", "b"], most=3)
        'a, b, c and 1 more'
    """
    ordered = sorted(names)
    more = f" and {len(ordered) - most} more" if len(ordered) > most else ""
    return ", ".join(ordered[:most]) + more


def close_names(name: str, choices: Iterable[str], *, most: int = 3) -> list[str]:
    """Return the names that a misspelt one probably means, the closest first.

    Case, and "-" in place of "_", make no difference. Names that share some letters alone, as
    "train" does with "pretrained", are not close.

    Example:
        >>> close_names("Momentm", ["momentum", "milestones"])
        ['momentum']
        >>> close_names("pretrained", ["train", "trained"])
        ['trained']
    """
    spellings: dict[str, str] = {}
    for choice in choices:
        spellings.setdefault(_spelling(choice), choice)
    matches = difflib.get_close_matches(_spelling(name), spellings, n=most, cutoff=_CLOSE)
    return [spellings[match] for match in matches]


def _spelling(name: str) -> str:
    return name.lower().replace("-", "_")


def check_name(kind: str, name: str, choices: Iterable[str]) -> None:
    """Raise an error for an unknown name.

    Args:
        kind: Kind of the name, for the message, such as "architecture".
        name: The name to check.
        choices: The valid names.

    Raises:
        ValueError: If the name is unknown; the message holds the closest valid names, or all.

    Example:
        >>> check_name("architecture", "unte", ["unet", "fpn"])
        Traceback (most recent call last):
        ValueError: unknown architecture 'unte'; did you mean 'unet'?
    """
    valid = list(dict.fromkeys(choices))
    if name in valid:
        return
    close = close_names(name, valid)
    if close:
        hint = f"did you mean {' or '.join(repr(match) for match in close)}?"
    else:
        more = f" and {len(valid) - _MOST_NAMES} more" if len(valid) > _MOST_NAMES else ""
        hint = f"there are: {', '.join(valid[:_MOST_NAMES]) or 'none'}{more}"
    raise ValueError(f"unknown {kind} {name!r}; {hint}")
