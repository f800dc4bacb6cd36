"""Tables of absolute positions, one for each resolution: an option of networks such as ViTs.

A table (timm's `pos_embed`) is a parameter that a network adds to its tokens. Images of another
grid take it resized, by the network itself in each pass. All private tables begin as copies of the
one that the network has, and stay on its grid: every resolution trains what its own passes resize.
Tables of one shape are mixed for a resolution in between, stored and exported like gamma and beta.
Tables of relative positions, and what is not learnt as a table, stay shared.

Private tables are this project's, without a publication to compare with. How a table is resized:
Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, https://arxiv.org/abs/2010.11929,
Section 3.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, ClassVar, Final, Literal, cast, get_args

from torch import Tensor, nn

from rsseg.common.messages import check_name
from rsseg.switchable.layers import Switchable

Positions = Literal["shared", "private"]
POSITIONS: Final[tuple[Positions, ...]] = get_args(Positions)
CHILD: Final = "switchable_positions"  # Name of the child with the sets, part of the state dict.
# pos_embed, pos_embed_0, absolute_pos_embed, position_embeddings, position_embedding_table, ...
_ABSOLUTE: Final = re.compile(r"(^|_)pos(ition)?_embed(ding)?s?(_|$)", re.IGNORECASE)
_RELATIVE: Final = re.compile(r"(^|_)rel(ative)?_pos", re.IGNORECASE)


def checked_positions(positions: str) -> Positions:
    """Return how tables of positions are kept.

    Raises:
        ValueError: If it is neither "shared" nor "private".
    """
    check_name("positions", positions, POSITIONS)
    return cast(Positions, positions)


def check_sharing(batchnorm: str, positions: str) -> None:
    """Check that tables of positions are private only where norms are.

    Raises:
        ValueError: If they are to be private, and norms shared.
    """
    if batchnorm == "shared" and positions == "private":
        raise ValueError(
            "positions 'private' needs to know the resolution, which norms shared by all do not "
            "tell; choose batchnorm 'private', or positions 'shared'"
        )


def position_tables(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the tables of absolute positions that a module itself holds, by name.

    Example:
        >>> module = nn.Module()
        >>> module.pos_embed = nn.Parameter(Tensor(1, 16, 8))
        >>> list(position_tables(module))
        ['pos_embed']
    """
    return {
        name: parameter
        for name, parameter in module.named_parameters(recurse=False)
        if _ABSOLUTE.search(name) and not _RELATIVE.search(name)
    }


class PositionTables(nn.Module):
    """The tables of one module: one set of them.

    Args:
        tables: Parameters by name.
    """

    def __init__(self, tables: Mapping[str, nn.Parameter]) -> None:
        super().__init__()
        for name, table in tables.items():
            self.register_parameter(name, table)


class SwitchablePositions(Switchable):
    """The tables of one module for each resolution; see `Switchable` for the arguments."""

    def table(self, name: str) -> Tensor:
        """Return a table of the active set."""
        return cast(Tensor, self.sets[self.active]._parameters[name])


class _HasPositions(nn.Module):
    """A module of another class whose tables are those of the active set of its child.

    A class for each such class is made by `_switchable_class`. A network reads its table wherever
    it likes, so its attribute has to answer; hooks of `forward` would miss other methods.
    """

    # Names that no network has: one may well have an attribute `names`, such as its classes.
    _rsseg_plain_class: ClassVar[type[nn.Module]]
    _rsseg_tables: ClassVar[tuple[str, ...]]
    switchable_positions: SwitchablePositions

    def __reduce_ex__(self, _protocol: Any) -> tuple[Any, ...]:
        # pickle does not find a class that was made here by its name.
        origin = (self._rsseg_plain_class, self._rsseg_tables)
        state = self.__getstate__()  # type: ignore[no-untyped-call]
        return _without_state, origin, state


@cache
def _switchable_class(kind: type[nn.Module], names: tuple[str, ...]) -> type[nn.Module]:
    tables = {name: _active_table(name) for name in names}
    about = {"__module__": kind.__module__, "__doc__": kind.__doc__}
    origin = {"_rsseg_plain_class": kind, "_rsseg_tables": names}
    return type(kind.__name__, (_HasPositions, kind), {**about, **origin, **tables})


def _active_table(name: str) -> property:
    def active_table(module: _HasPositions) -> Tensor:
        return module.switchable_positions.table(name)

    return property(active_table)


def _without_state(kind: type[nn.Module], names: tuple[str, ...]) -> nn.Module:
    made = _switchable_class(kind, names)  # type: ignore[arg-type]  # A class is hashable.
    return made.__new__(made)


def make_positions_private(
    network: nn.Module, names: Sequence[str], memos: Mapping[str, dict[int, object]]
) -> None:
    """Give each resolution its own tables of absolute positions, in place.

    Args:
        network: It stays an instance of its class.
        names: Of the sets.
        memos: See `Switchable`.

    Raises:
        ValueError: If the network has no table.
    """
    tables = {module: position_tables(module) for module in network.modules()}
    tables = {module: own for module, own in tables.items() if own}
    if not tables:
        raise ValueError(_no_table_message(network))
    for module, own in tables.items():
        sets = SwitchablePositions(PositionTables(own), names, memos=memos)
        for name in own:
            del module._parameters[name]
        module.add_module(CHILD, sets)
        kind = _switchable_class(type(module), tuple(own))  # type: ignore[arg-type]  # Hashable.
        module.__class__ = kind


def modules_with_private_positions(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the modules of a network whose tables of positions are private."""
    return (module for module in network.modules() if isinstance(module, _HasPositions))


def private_positions(network: nn.Module) -> Positions:
    """Return whether a network has private tables of positions."""
    return "private" if any(True for _ in modules_with_private_positions(network)) else "shared"


def restore_positions(network: nn.Module) -> None:
    """Make ordinary modules of those whose sets have been replaced by one `PositionTables`."""
    for module in list(modules_with_private_positions(network)):
        tables = module._modules.pop(CHILD)
        assert isinstance(tables, PositionTables)
        module.__class__ = cast(_HasPositions, module)._rsseg_plain_class
        for name, table in tables.named_parameters():
            module.register_parameter(name, table)


def _no_table_message(network: nn.Module) -> str:
    kind = type(network).__name__
    names = (name.rpartition(".")[2] for name, _ in network.named_parameters())
    relative = sorted({name for name in names if _RELATIVE.search(name)})
    reason = f"; {', '.join(relative)}: tables of relative positions are shared" if relative else ""
    return (
        f"no table of absolute positions, such as the pos_embed of a ViT, found in {kind}{reason}; "
        "leave positions 'shared'"
    )
