"""Reading a run's configuration: YAML in, validated frozen dataclasses out.

Every fault of a file is reported at once, each with the full path of its key. The settings of a run
are in `training.config`; what a task adds is in its own `config.py`. Values are obeyed as they
are written, nothing is derived from the name of an architecture.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from rsseg.common.files import read_text
from rsseg.common.messages import close_names, listed
from rsseg.common.yaml_files import ConfigError, read_yaml, set_value

_CHOICES: Final = ("anyOf", "oneOf", "allOf")
_DEEPEST: Final = 8  # blocks within blocks; a configuration has two
_MOST_KEYS: Final = 40  # in a message
QUESTION: Final = "# QUESTION"  # marks what the user of a configuration has to decide
_LONGEST: Final = 400  # characters of a value or a reason: longer ones hide the rest


Blocks = dict[str, list[str]]  # the keys of each block, by the block's path; "" is the whole


def blocks_of(schema: dict[str, Any]) -> Blocks:
    """Return the keys of a configuration and of its blocks, from its JSON schema."""
    blocks: Blocks = {}
    definitions = schema.get("$defs", {})
    parts: list[tuple[str, Any]] = [("", schema)]
    while parts:
        path, part = parts.pop()
        if "$ref" in part:
            part = definitions[part["$ref"].rpartition("/")[2]]
        parts += [(path, choice) for kind in _CHOICES for choice in part.get(kind, [])]
        if isinstance(part.get("items"), dict):
            parts.append((path, part["items"]))
        for key, inner in part.get("properties", {}).items():
            blocks.setdefault(path, []).append(key)
            if path.count(".") < _DEEPEST:
                parts.append((_joined(path, key), inner))
    return blocks


def describe(fault: ErrorDetails, blocks: Blocks, source_of: Callable[[Sequence[str]], str]) -> str:
    """Return one fault as a line: the key's full path, what is wrong, and what was meant."""
    # A union of a number and a list adds the name of each alternative to the path.
    path = [str(part) for part in fault["loc"]]
    keys = {key for block in blocks.values() for key in block}
    names = [part for part in path if part in keys or part.isdigit() or part == path[0]]
    key, source = _short(".".join(names)), source_of(names)
    if fault["type"] == "unexpected_keyword_argument":
        hint = _hint(path, blocks)
        return f"unknown key '{_short('.'.join(path))}' in {source_of(path)}; {hint}"
    if fault["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return f"key '{key}' is missing in {source}"
    message = _short(fault["msg"].removeprefix("Value error, "))
    where = f"'{key}' in {source}: " if key else f"{source}: "
    value = "" if fault["type"] == "value_error" else f", got {_text_of(fault['input'])}"
    return f"{where}{message}{value}"


def _hint(path: Sequence[str], blocks: Blocks) -> str:
    """Return what an unknown key probably means: in its own block, else elsewhere, else all."""
    block, key = "", path[-1]
    for part in path[:-1]:
        block = _joined(block, part) if _joined(block, part) in blocks else block
    if close := close_names(key, blocks.get(block, []), most=1):
        return f"did you mean '{close[0]}'?"
    elsewhere = [_joined(other, name) for other, names in blocks.items() for name in names]
    same = [name for name in elsewhere if name.rpartition(".")[2] == key]
    if same:
        return f"did you mean {' or '.join(map(repr, same))}?"
    where = f"in '{block}' there are" if block else "there are"
    return f"{where}: {listed(blocks.get(block, []), most=_MOST_KEYS) or 'none'}"


def _joined(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _without_repeats(lines: Iterable[str]) -> list[str]:
    """Return each line once, and each list of the valid keys only where it stands first."""
    shown: dict[str, None] = {}
    lists: set[str] = set()
    for line in lines:
        head, _, hint = line.partition("; ")
        shown[head if hint in lists else line] = None
        if "there are: " in hint:
            lists.add(hint)
    return list(shown)


_NUMBERS: Final = ("float_type", "float_parsing", "int_type", "int_parsing")


def _joined_alternatives(faults: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Return the faults, of a number or a list of them one where neither was given."""
    joined: list[ErrorDetails] = []
    for fault in faults:
        before = joined[-1] if joined else None
        if (
            before is not None
            and before["type"] in _NUMBERS
            and fault["type"] in ("tuple_type", "list_type")
            and before["loc"][:-1] == fault["loc"][:-1]
            and before["input"] is fault["input"]
        ):
            joined[-1] = {**before, "msg": "Input should be a number, or a list of numbers"}
        else:
            joined.append(fault)
    return joined


def _text_of(value: object) -> str:
    try:
        return _short(repr(value))
    except ValueError:  # Python refuses to write out numbers of thousands of digits.
        return "a number of more digits than can be shown"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


__all__ = ["ConfigError", "is_given", "load_config", "overridden", "plain", "validate"]

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
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
            missing keys, wrong types, values out of range; and the lines of the file that ask a
            question.
    """
    values = read_yaml(path)
    try:
        return overridden(kind, values, overrides, source=path.name)
    except ConfigError as error:
        if hint := _questions_hint(path):
            raise ConfigError(f"{error}\n{hint}") from error
        raise


def _questions_hint(path: Path) -> str:
    """Return which lines of a file ask a question, as datasets.init writes them; "" if none."""
    lines = enumerate(read_text(path).splitlines(), 1)
    numbers = [str(number) for number, line in lines if QUESTION in line]
    which = f"line{'s' if len(numbers) > 1 else ''} {', '.join(numbers)}"
    return f"{path.name}: answer the questions marked {QUESTION} in {which}" if numbers else ""


def overridden(
    kind: type[Config],
    values: dict[str, Any],
    overrides: Sequence[str],
    *,
    source: str = "the checkpoint",
) -> Config:
    """Do the same with plain values; `source` names them in messages."""
    changed = copy.deepcopy(values)
    for assignment in overrides:
        set_value(changed, assignment)
    return _validated(kind, changed, partial(_source, values, overrides, source))


def _source(
    values: dict[str, Any], overrides: Sequence[str], source: str, path: Sequence[str]
) -> str:
    """Return where a faulty value comes from: what was read, an assignment, or both."""
    keys = {assignment: assignment.partition("=")[0].split(".") for assignment in overrides}
    above = [a for a, key in keys.items() if list(path[: len(key)]) == key]
    if above:
        return f"--set {_short(above[-1])}"
    # A whole block may be at fault for what is set in it, or be there only as something is set.
    inside = [a for a, key in keys.items() if key[: len(path)] == list(path)]
    if not inside:
        return source
    assignments = f"--set {_short(' '.join(inside))}"
    return f"{source} with {assignments}" if _holds(values, path) else assignments


def _holds(values: Any, path: Sequence[str]) -> bool:
    for key in path:
        if not isinstance(values, dict) or key not in values:
            return False
        values = values[key]
    return True


def is_given(path: Path, overrides: Sequence[str], key: str) -> bool:
    """Return whether a configuration file or an override sets a key, such as "optim.lr".

    Raises:
        ConfigError: If the file cannot be read.
    """
    values = read_yaml(path)
    for assignment in overrides:
        set_value(values, assignment)
    value: Any = values
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            return False
        value = value[part]
    return True


def validate(kind: type[Config], values: dict[str, Any], source: str) -> Config:
    """Fill a dataclass from plain values; `source` names them in the message of a ConfigError."""
    return _validated(kind, values, lambda _: source)


def _validated(
    kind: type[Config], values: dict[str, Any], source_of: Callable[[Sequence[str]], str]
) -> Config:
    adapter = TypeAdapter(kind)
    try:
        return adapter.validate_python(values)
    except ValidationError as error:
        blocks = blocks_of(adapter.json_schema())
        faults = error.errors()[:_MOST_FAULTS]
        lines = _without_repeats(
            describe(fault, blocks, source_of) for fault in _joined_alternatives(faults)
        )
        more = error.error_count() - _MOST_FAULTS
        if more > 0:
            lines.append(f"and {more} more faults in {source_of(())}")
        raise ConfigError("\n".join(lines)) from error


def plain(config: object) -> dict[str, Any]:
    """Return a configuration as plain values, as YAML and JSON hold them."""
    values = TypeAdapter(type(config)).dump_python(config, mode="json")
    assert isinstance(values, dict)
    return values
