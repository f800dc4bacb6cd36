"""Safe reading of YAML, and setting single values in the result.

What a text may hold is bounded: an alias (`*name`) repeats what it stands for, and a few hundred
bytes of aliases of aliases would be gigabytes when written out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from pathlib import Path
from typing import Any, Final

import yaml

from rsseg.common.files import read_text

_LARGEST: Final = 2**18  # bytes of a file
_LONGEST: Final = 2**20  # characters, with every alias written out
_DEEPEST: Final = 32  # blocks within blocks


class ConfigError(ValueError):
    """A configuration that cannot be used; the message lists every fault."""


class _UniqueKeyLoader(yaml.SafeLoader):
    """Safe YAML that refuses a key written twice, where plain YAML silently takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key, count in Counter(key for key in keys if isinstance(key, Hashable)).items():
            if count > 1:
                line = node.start_mark.line + 1
                raise ConfigError(f"key '{key}' is written twice in the block at line {line}")
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping.

    Raises:
        ConfigError: If the file is missing, not YAML or too large, or its top level is not a
            mapping.
    """
    try:
        text = read_text(path, largest=_LARGEST)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"not valid YAML: {error}") from error
    values = _parse(text, str(path))
    if not isinstance(values, dict):
        raise ConfigError(f"{path} does not hold a mapping of keys to values at its top level")
    return values


def set_value(values: dict[str, Any], assignment: str) -> None:
    """Set one value, given as "optim.lr=0.05", in nested values.

    Raises:
        ConfigError: If it is not an assignment, or leads through a value that is not a group.
    """
    key, equals, text = assignment.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set expects key=value, such as optim.lr=0.05, got '{assignment}'")
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {key}: '{parent}' is a value, not a group of keys")
    values[last] = _parse(text, f"--set {key}: '{text}'")


def _parse(text: str, source: str) -> Any:
    """Parse YAML; `source` names it in the message of a ConfigError."""
    loader = None
    try:
        loader = _UniqueKeyLoader(text)
        node = loader.get_single_node()
        _check_size(node)
        return None if node is None else loader.construct_document(node)
    except Exception as error:  # A value that its tag does not fit raises errors of many kinds.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"{source} is not valid YAML: {reason}") from error
    finally:
        if loader:
            loader.dispose()


def _check_size(root: yaml.Node | None) -> None:
    """Raise ConfigError for what is too large or too deep; what holds itself is endlessly deep."""
    nodes: list[tuple[yaml.Node, int]] = [] if root is None else [(root, 0)]
    size = 0
    while nodes:
        node, depth = nodes.pop()
        size += 1 + (len(node.value) if isinstance(node, yaml.ScalarNode) else 0)
        if isinstance(node, yaml.SequenceNode):
            nodes += [(item, depth + 1) for item in node.value]
        elif isinstance(node, yaml.MappingNode):
            nodes += [(part, depth + 1) for pair in node.value for part in pair]
        if depth > _DEEPEST:
            raise ConfigError(f"it holds blocks within blocks, more than {_DEEPEST} deep")
        if size + len(nodes) > _LONGEST:
            raise ConfigError(
                f"it has more than {_LONGEST} characters with its aliases written out"
            )
