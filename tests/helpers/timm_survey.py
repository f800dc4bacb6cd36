"""What becomes of a small network of each family of timm that is made switchable.

`python -m tests.helpers.timm_survey` writes the table of docs/NORMALISATION.md.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import list_models, list_modules
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from benchmarks.tools import put_between
from rsseg.classifiers.sizes import Options, candidates, without_memory
from rsseg.common.messages import first_line, markdown_table
from rsseg.switchable.convert import convert_to_switchable, private_layers, specialize, switch
from rsseg.switchable.norms import Norm, checked_norms, kinds_in
from rsseg.switchable.positions import Positions, position_tables

SMALL_ENOUGH = 60e6  # parameters
LARGEST = 200e6  # of the smallest network of a family
SMALL = (96, 64)
DOC = Path(__file__).parents[2] / "docs" / "NORMALISATION.md"
BEGIN, END = "<!-- families: begin -->", "<!-- families: end -->"
_HINTS = ("test_", "atto", "femto", "pico", "nano", "_xxs", "_xs", "_t0", "_s0", "tiny", "_050")
_LATER = ("small", "18")


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Args:
        family: Module of timm.
        network: The network of it that was taken.
        norms: How many of each kind it has.
        sides: Sizes of images that it takes, one or two.
        options: With these options.
        verdict: "ok" (two sizes), "fixed size" (one), "refused" (nothing to make private), "large".
        positions: How many tables of absolute positions it has.
        reason: Why it is not "ok".
    """

    family: str
    network: str
    verdict: str
    norms: dict[str, int] = field(default_factory=dict)
    positions: int = 0
    sides: tuple[int, ...] = ()
    options: Options = field(default_factory=dict)
    reason: str = ""


def families() -> dict[str, list[str]]:
    """Return the names of the networks of each family, those first that sound small."""
    found = {module: list_models(module=module) for module in list_modules()}
    return {module: _small_first(names) for module, names in found.items() if names}


def _small_first(names: list[str]) -> list[str]:
    hints = (*_HINTS, *_LATER)
    places = {n: min((i for i, h in enumerate(hints) if h in n), default=len(hints)) for n in names}
    return sorted(names, key=lambda name: (places[name], len(name), name))


def survey(family: str) -> Row:
    """Convert and specialize a network of a family, and compare with what it was, to the bit.

    Raises:
        AssertionError: If an output differs.
    """
    name, count = _network(families()[family])
    if count > LARGEST:
        return Row(family, name, "large", reason="none below 200 M parameters")
    try:
        build, sides, reason = _attempt(name)
    except ValueError as error:
        return Row(family, name, "refused", reason=str(error))
    network, options = build(), build.options
    kinds = kinds_in(network)
    norms = {str(kind): count for kind, count in kinds.items()}
    tables = sum(len(position_tables(module)) for module in network.modules())
    row = Row(family, name, "ok", norms=norms, positions=tables, sides=sides, options=options)
    if not kinds:
        try:
            convert_to_switchable(network, sides)
        except ValueError as error:
            return replace(row, verdict="refused", reason=str(error).rpartition("; ")[2])
    _check(build, checked_norms(kinds), sides, "shared")
    if tables:
        _check(build, checked_norms(kinds), sides, "private")
    return replace(row, verdict="fixed size", reason=reason) if reason else row


@dataclass(frozen=True)
class _Build:
    name: str
    options: Options

    def __call__(self) -> nn.Module:
        torch.manual_seed(0)
        network: nn.Module = timm.create_model(self.name, num_classes=7, **self.options)
        return network.eval()


def _network(names: list[str]) -> tuple[str, int]:
    """Return the first name of a small network, else the smallest with norms, and its size."""
    sizes: dict[str, tuple[bool, int]] = {}
    for name in names:
        network = _shapes(name)
        count = sum(parameter.numel() for parameter in network.parameters())
        if count < SMALL_ENOUGH:
            return name, count
        sizes[name] = (not kinds_in(network), count)
    smallest = min(sizes, key=lambda name: sizes[name])
    return smallest, sizes[smallest][1]


def _shapes(name: str) -> nn.Module:
    network: nn.Module = without_memory(lambda: timm.create_model(name))
    return network


def _attempt(name: str) -> tuple[_Build, tuple[int, ...], str]:
    """Return how a network is built, for which sizes, and why it is for one size only.

    Raises:
        ValueError: If it takes not even the images that it is made for.
    """
    config = timm.get_pretrained_cfg(name, allow_unregistered=True)
    default = 224 if config is None else max(config.input_size[1:])
    smaller = max(32, (default * 3 // 4) // 32 * 32)
    reasons: list[str] = []
    others = ((default, smaller), (default, default * 3 // 4), (2 * default, default))
    for sides in (SMALL, *others, (default,)):
        for options in candidates(sides):
            build = _Build(name, options)
            reason = _reason(build, sides)
            if reason is None:
                return build, sides, reasons[0] if len(sides) == 1 else ""
            if sides != SMALL and not options:
                reasons.append(reason)
    raise ValueError(reasons[-1])


@torch.no_grad()
def _reason(build: _Build, sides: Sequence[int]) -> str | None:
    """Return why a network does not take images of some sizes."""
    try:
        network = build()
        for side in sides:
            what = f"{side} pixels: "
            _outputs(network, side)
    except Exception as error:  # Each network has errors of its own.
        text = first_line(error) or type(error).__name__
        return f"{what if 'what' in locals() else ''}{text}"
    return None


def _outputs(network: nn.Module, side: int) -> list[Tensor]:
    torch.manual_seed(side)
    outputs = network(torch.randn(1, 3, side, side))
    return [tensor for tensor in tree_leaves(outputs) if isinstance(tensor, Tensor)]


def _randomise(network: nn.Module) -> None:
    generator = torch.Generator().manual_seed(1)
    for layer in private_layers(network):
        for one in layer.sets.values():
            for parameter in one.parameters(recurse=False):
                nn.init.uniform_(parameter, 0.5, 1.5, generator=generator)


@torch.no_grad()
def _check(
    build: _Build, norms: Sequence[Norm], sides: tuple[int, ...], positions: Positions
) -> None:
    network, plain = build(), build()
    convert_to_switchable(network, sides, norms=norms, positions=positions)
    for side in sides:
        switch(network, side)
        assert _same(_outputs(network, side), _outputs(plain, side)), f"converted, {side}"
    _randomise(network)
    for side in sides:
        switch(network, side)
        expected, special = _outputs(network, side), specialize(network, side)
        assert type(special) is type(plain)
        assert not any(type(layer).__module__.startswith("rsseg") for layer in special.modules())
        # Some networks keep what they made of their parameters until they are trained again.
        plain.train().load_state_dict(special.state_dict(), strict=True)
        assert _same(_outputs(special, side), expected), f"specialized, {side}"
        assert _same(_outputs(plain.eval(), side), expected), f"loaded, {side}"


def _same(first: list[Tensor], second: list[Tensor]) -> bool:
    finite = all(tensor.isfinite().all() for tensor in first)
    return finite and len(first) == len(second) and all(map(torch.equal, first, second))


def table(rows: Sequence[Row]) -> str:
    """Return the table as Markdown."""
    lines = [("family", "network", "norms", "tables", "sizes", "options", "result")]
    for row in rows:
        norms = ", ".join(f"{count} {kind}" for kind, count in row.norms.items())
        sizes = ", ".join(map(str, row.sides))
        options = ", ".join(f"{key}: {str(value).lower()}" for key, value in row.options.items())
        result = row.verdict + (f": {_short(row.reason)}" if row.reason else "")
        tables = str(row.positions or "")
        lines.append((row.family, row.network, norms, tables, sizes, options, result))
    return markdown_table(lines)


def _short(reason: str) -> str:
    text = reason.replace("|", "/").replace("<", "(").replace(">", ")")
    return text if len(text) <= 90 else f"{text[:87]}..."


def rows_in(path: Path) -> Iterator[Row]:
    """Yield what `main` has noted so far."""
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        values: dict[str, Any] = json.loads(line)
        yield Row(**{**values, "sides": tuple(values["sides"])})


def main(notes: Path, survey_one: Callable[[str], Row] = survey) -> None:
    """Survey the families that are not noted yet, and write the table."""
    torch.set_num_threads(1)
    known = {row.family for row in rows_in(notes)}
    for family in (name for name in families() if name not in known):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                row = survey_one(family)
            except AssertionError as error:
                row = Row(family, "", "fault", reason=str(error))
        with notes.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row)) + "\n")
        print(row.family, row.network, row.verdict, row.reason, file=sys.stderr, flush=True)
    rows = sorted(rows_in(notes), key=lambda row: row.family)
    text = put_between(DOC.read_text(encoding="utf-8"), f"\n{table(rows)}\n", BEGIN, END)
    DOC.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
