"""Reading a run's configuration: YAML in, validated frozen dataclasses out.

Every fault of a file is reported at once, each with the full path of its key. The settings of a run
are in `training.config`; what a task adds is in its own `config.py`. Values are obeyed as they
are written, nothing is derived from the name of an architecture.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from rsseg.common.yaml_files import ConfigError, read_yaml, set_value

_LONGEST: Final = 400  # characters of a value or a reason: longer ones hide the rest


def known_keys(schema: dict[str, Any]) -> list[str]:
    """List the keys of a configuration and of its blocks, from its JSON schema."""
    blocks = [schema, *schema.get("$defs", {}).values()]
    return [key for block in blocks for key in block.get("properties", {})]


def describe(fault: ErrorDetails, keys: Sequence[str], source: str) -> str:
    """Return one fault as a line: the key's full path, what is wrong, and what was meant."""
    # A union of a number and a list adds the name of each alternative to the path.
    path = [str(part) for part in fault["loc"]]
    names = [part for part in path if part in keys or part.isdigit() or part == path[0]]
    key = _short(".".join(names))
    if fault["type"] == "unexpected_keyword_argument":
        close = difflib.get_close_matches(path[-1], keys, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        return f"unknown key '{_short('.'.join(path))}' in {source}{hint}"
    if fault["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return f"key '{key}' is missing in {source}"
    message = _short(fault["msg"].removeprefix("Value error, "))
    where = f"'{key}' in {source}: " if key else f"{source}: "
    value = "" if fault["type"] == "value_error" else f", got {_text_of(fault['input'])}"
    return f"{where}{message}{value}"


def _text_of(value: object) -> str:
    try:
        return _short(repr(value))
    except ValueError:  # Python refuses to write out numbers of thousands of digits.
        return "a number of more digits than can be shown"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


__all__ = ["ConfigError", "load_config", "overridden", "plain", "validate"]

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1, lt=2**31)]
Config = TypeVar("Config")
_MOST_FAULTS: Final = 100  # in a message


def load_config(kind: type[Config], path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read and validate a configuration file.

    Args:
        kind: The dataclass to fill.
        path: YAML file.
        overrides: Assignments such as "optim.lr=0.05"; they win over the file.

    Raises:
        ConfigError: With all faults at once: unknown keys (and what was probably meant),
            missing keys, wrong types, values out of range.
    """
    return overridden(kind, read_yaml(path), overrides, source=path.name)


def overridden(
    kind: type[Config],
    values: dict[str, Any],
    overrides: Sequence[str],
    *,
    source: str = "the checkpoint",
) -> Config:
    """Do the same with plain values; `source` names them in messages."""
    values = copy.deepcopy(values)
    for assignment in overrides:
        set_value(values, assignment)
    return validate(kind, values, source)


def validate(kind: type[Config], values: dict[str, Any], source: str) -> Config:
    """Fill a dataclass from plain values; `source` names them in the message of a ConfigError."""
    adapter = TypeAdapter(kind)
    try:
        return adapter.validate_python(values)
    except ValidationError as error:
        keys = known_keys(adapter.json_schema())
        faults = error.errors()[:_MOST_FAULTS]
        lines = list(dict.fromkeys(describe(fault, keys, source) for fault in faults))
        more = error.error_count() - _MOST_FAULTS
        if more > 0:
            lines.append(f"and {more} more faults in {source}")
        raise ConfigError("\n".join(lines)) from error


def plain(config: object) -> dict[str, Any]:
    """Return a configuration as plain values, as YAML and JSON hold them."""
    values = TypeAdapter(type(config)).dump_python(config, mode="json")
    assert isinstance(values, dict)
    return values
