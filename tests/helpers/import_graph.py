"""Who imports whom, read from source text: nothing is imported, so a fault cannot hide itself.

Every import counts, also one inside a function. Modules are named with dots; a package stands for
its `__init__.py`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
Graph = dict[str, set[str]]


def sources(*folders: str) -> dict[str, str]:
    """Return the source text of every module in folders of this checkout; "" is its root alone."""
    paths = [p for name in folders for p in (ROOT / name).glob("**/*.py" if name else "*.py")]
    return {name_of(path): path.read_text(encoding="utf-8") for path in sorted(paths)}


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def below(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def imports(source: str, module: str, *, package: bool = False) -> Iterator[str]:
    """Yield the dotted names that a module imports; `from a import b` is a.b, module or not."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            parts = module.split(".")
            up = len(parts) - node.level + package if node.level else 0
            base = [*parts[:up], *([node.module] if node.module else [])]
            yield from (".".join([*base, alias.name]) for alias in node.names)


def modules_in_strings(source: str) -> Iterator[str]:
    """Yield strings that are dotted names: tables of what is imported when it is first used."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "." in node.value:
            yield node.value


def import_graph(texts: Mapping[str, str]) -> Graph:
    """Return, for each module, the other modules among `texts` that it imports."""
    packages = {name.rpartition(".")[0] for name in texts}
    graph: Graph = {}
    for module, text in texts.items():
        names = imports(text, module, package=module in packages)
        known = {_module_in(name, texts) for name in names}
        graph[module] = {name for name in known if name not in ("", module)}
    return graph


def _module_in(name: str, texts: Mapping[str, str]) -> str:
    """Return the longest beginning of a dotted name that is a module, or an empty string."""
    while name and name not in texts:
        name = name.rpartition(".")[0]
    return name


def grouped(graph: Graph, group_of: Callable[[str], str]) -> Graph:
    """Return the graph of groups of modules, without arrows inside a group."""
    groups: Graph = {}
    for module, imported in graph.items():
        others = groups.setdefault(group_of(module), set())
        others |= {group_of(name) for name in imported} - {group_of(module)}
    return groups


def reachable(graph: Mapping[str, Set[str]], starts: Iterable[str]) -> set[str]:
    """Return all that is reached from some modules, themselves included."""
    reached: set[str] = set()
    waiting = list(starts)
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            waiting += graph.get(module, ())
    return reached


def circles(graph: Graph) -> list[list[str]]:
    """Return the strongly connected components of more than one module, each sorted.

    Two modules are in one if each reaches the other.
    """
    reach = {module: reachable(graph, [module]) for module in graph}
    components = {
        tuple(sorted(other for other in reach[module] if module in reach.get(other, ())))
        for module in graph
    }
    return sorted(list(component) for component in components if len(component) > 1)


def forbidden_arrows(graph: Graph, allowed: Mapping[str, Set[str]]) -> list[str]:
    """Return "a imports b" for each arrow that a table does not allow; unknown groups may none."""
    return [
        f"{group} imports {other}"
        for group, others in sorted(graph.items())
        for other in sorted(others - set(allowed.get(group, ())))
    ]
