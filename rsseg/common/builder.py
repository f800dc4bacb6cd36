"""A function that builds a network, by name: a file says what its network is and holds no code.

Building one imports and runs code that is not in the file, and only where the caller allows it.
"""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from typing import Any, Final

from pydantic import ConfigDict, field_validator
from pydantic.dataclasses import dataclass
from torch import nn

_PATH: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


class BuilderError(ValueError):
    """A builder that may not be run, cannot be found, or does not build a network."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Builder:
    """A function or class that returns a network.

    Args:
        function: Where it is, as "module:function".
        arguments: Its keyword arguments, as JSON holds them.
    """

    function: str
    arguments: dict[str, Any] = field(default_factory=dict)

    @field_validator("function")
    @classmethod
    def _is_path(cls, function: str) -> str:
        if not _PATH.fullmatch(function):
            raise ValueError(
                f"{function!r} is not the place of a builder; expected 'module:function', such as "
                "'my_networks:build'"
            )
        return function

    def __str__(self) -> str:
        """Return the call, such as my_networks:build(depth=18)."""
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"{self.function}({arguments})"

    def build(self, *, allowed: bool) -> nn.Module:
        """Import the function and call it.

        The module is looked for where Python looks, then in the current folder.

        Args:
            allowed: Whether the code of the module may be run.

        Raises:
            BuilderError: If it may not, or cannot be imported, or returns something else.
            Exception: What the function raises.
        """
        if not allowed:
            raise BuilderError(
                f"its network is built by {self}, code that is not in the file and would be "
                "imported and run; if you trust it, pass allow_builder=True, on the command line "
                "--allow-builder"
            )
        with _current_folder_importable():
            network = _resolved(self.function)(**self.arguments)
        if not isinstance(network, nn.Module):
            kind = type(network).__name__
            raise BuilderError(f"{self} returned a {kind}, not a network (torch.nn.Module)")
        return network


def builder_of(
    function: str | Callable[..., nn.Module], arguments: Mapping[str, Any] | None = None
) -> Builder:
    """Return the builder for a function, or for its place.

    Args:
        function: "module:function", or a function or class at the top of a module.
        arguments: Keyword arguments: numbers, texts, lists, mappings, true, false, None.

    Raises:
        BuilderError: If another process could not find it, or a file not hold the arguments.

    Example:
        >>> str(builder_of("my_networks:build", {"depth": 18}))
        'my_networks:build(depth=18)'
    """
    place = function if isinstance(function, str) else _place(function)
    values = dict(arguments or {})
    for name, value in values.items():
        if not _is_plain(value):
            raise BuilderError(
                f"argument {name!r} of {place} is {value!r}, which a file cannot hold as it is; "
                "give numbers, texts, lists and mappings with texts as keys"
            )
    return Builder(place, values)


def _place(function: Callable[..., nn.Module]) -> str:
    if not (inspect.isfunction(function) or inspect.isclass(function)):
        raise BuilderError(
            f"expected a function or a class that builds a network, got {function!r}"
        )
    module, name = function.__module__, function.__qualname__
    if module == "__main__" or "<" in name:
        raise BuilderError(
            f"{name} cannot be imported from {module} by another program; put it at the top of a "
            "module of its own, such as my_networks.py"
        )
    return f"{module}:{name}"


def _is_plain(value: object) -> bool:
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError):
        return False


def _resolved(place: str) -> Callable[..., object]:
    module, _, name = place.partition(":")
    try:
        target: Any = importlib.import_module(module)
        for part in name.split("."):
            target = getattr(target, part)
    except ImportError as error:
        raise BuilderError(
            f"cannot import {module}, which builds the network ({error}); start in the folder of "
            f"{module.partition('.')[0]}, or add that to PYTHONPATH"
        ) from error
    except AttributeError as error:
        raise BuilderError(f"{module} has no {name} that builds the network") from error
    if not callable(target):
        raise BuilderError(f"{place} is not a function that builds a network")
    function: Callable[..., object] = target
    return function


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    """Let Python import from the current folder, last, inside a `with` block."""
    folder = os.getcwd()  # noqa: PTH109 As sys.path holds it.
    sys.path.append(folder)
    try:
        yield
    finally:
        # The last one: the folder may have been there before, and the code may have added others.
        places = [place for place, entry in enumerate(sys.path) if entry == folder]
        if places:
            del sys.path[places[-1]]
