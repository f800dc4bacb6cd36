"""What is wrong in a configuration, one line for each fault; the settings are in `config`."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, Final

from pydantic_core import ErrorDetails

_LONGEST: Final = 400  # characters of a value or a reason


def known_keys(schema: dict[str, Any]) -> list[str]:
    """List the keys of a configuration and of its blocks, from its JSON schema."""
    blocks = [schema, *schema.get("$defs", {}).values()]
    return [key for block in blocks for key in block.get("properties", {})]


def describe(fault: ErrorDetails, known: Sequence[str], source: str) -> str:
    """Write one fault as a line: the key's full path, what is wrong, and what was meant."""
    # A union of a number and a list adds the name of each alternative to the path.
    path = [str(part) for part in fault["loc"]]
    names = [part for part in path if part in known or part.isdigit() or part == path[0]]
    key = _short(".".join(names))
    if fault["type"] == "unexpected_keyword_argument":
        close = difflib.get_close_matches(path[-1], known, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        return f"unknown key '{_short('.'.join(path))}' in {source}{hint}"
    if fault["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return f"key '{key}' is missing in {source}"
    message = _short(fault["msg"].removeprefix("Value error, "))
    where = f"'{key}' in {source}: " if key else f"{source}: "
    given = "" if fault["type"] == "value_error" else f", got {_shown(fault['input'])}"
    return f"{where}{message}{given}"


def _shown(value: object) -> str:
    try:
        return _short(repr(value))
    except ValueError:  # Python refuses to write out numbers of thousands of digits.
        return "a number of more digits than can be shown"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
