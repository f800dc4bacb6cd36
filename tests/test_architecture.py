"""Imports point one way, `datasets` is ours, and the public names are the agreed ones.

Files are read, not imported; parts of the tree that are not there are not checked.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import datasets
import rsseg

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("rsseg", "datasets", "classification", "benchmarks")
PUBLIC = {
    "SwitchableBatchNorm2d",
    "convert_to_switchable",
    "switch",
    "specialize",
    "SwitchableNet",
    "ensemble_logits",
    "mred_loss",
    "pixelwise_mred_loss",
    "MREDLosses",
    "interpolate_set",
    "recalibrate",
    "load_checkpoint",
    "load_published",
    "count_macs",
}
NETWORKS = ("rsseg.switchable.convert", "rsseg.switchable.net", "rsseg.segmentation")
# Module (with all that lies below it) and what it must not import.
FORBIDDEN = [
    ("rsseg", ("classification", "datasets", "configs", "train_cls", "train_seg", "tests")),
    ("datasets", ("classification", "configs", "train_cls", "train_seg", "tests")),
    ("classification", ("datasets", "configs", "train_cls", "train_seg", "tests")),
    ("rsseg.switchable.resolutions", ("rsseg",)),
    (
        "rsseg.switchable.convert",
        (
            "rsseg.switchable.net",
            "rsseg.switchable.unseen",
            "rsseg.segmentation",
            "rsseg.losses.mred",
        ),
    ),
    ("rsseg.switchable.unseen", ("rsseg.switchable.net", "rsseg.segmentation")),
    ("rsseg.switchable.net", ("rsseg.segmentation",)),
    *((f"rsseg.{name}", NETWORKS) for name in ("mred", "distillation", "pixelwise", "optim")),
    ("rsseg.common.checkpoint", NETWORKS),
    ("rsseg.common.distributed", NETWORKS),
]


def below(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def files() -> list[Path]:
    found = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return sorted([*found, *ROOT.glob("*.py")])


def imports(source: str, module: str, *, package: bool = False) -> Iterator[str]:
    """Yield what a module imports: `from a import b` as a and as a.b, which may be a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            parts = module.split(".")
            up = len(parts) - node.level + package if node.level else 0
            base = ".".join([*parts[:up], *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def imports_of(path: Path) -> set[str]:
    package = path.name == "__init__.py"
    return set(imports(path.read_text(encoding="utf-8"), name_of(path), package=package))


def faults(module: str, forbidden: tuple[str, ...]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {imported}"
        for path in files()
        if below(name_of(path), module)
        for imported in sorted(imports_of(path))
        if any(below(imported, other) for other in forbidden)
    ]


@pytest.mark.parametrize(("module", "forbidden"), FORBIDDEN, ids=[m for m, _ in FORBIDDEN])
def test_module_imports_nothing_that_stands_on_it(module: str, forbidden: tuple[str, ...]) -> None:
    assert faults(module, forbidden) == []


def test_every_file_of_the_library_is_found() -> None:
    names = {name_of(path) for path in files()}
    assert {
        "rsseg",
        "rsseg.switchable.convert",
        "rsseg.switchable.net",
        "rsseg.switchable.unseen",
        "datasets",
    } <= names


def test_every_spelling_of_an_import_is_seen() -> None:
    source = "import a.b as x\nfrom c import d\nfrom . import e\nfrom .f import g\n"
    source += "def h():\n    from ..i import j\n"
    expected = {"a.b", "c", "c.d", "p.q", "p.q.e", "p.q.f", "p.q.f.g", "p.i", "p.i.j"}
    assert set(imports(source, "p.q.module")) == expected
    assert set(imports("from . import e", "p.q", package=True)) == {"p.q", "p.q.e"}


def test_albumentations_is_imported_by_the_views_only() -> None:
    users = {name_of(p) for p in files() if any(below(i, "albumentations") for i in imports_of(p))}
    assert users <= {"datasets.views"}


def test_datasets_is_the_folder_of_this_checkout() -> None:
    assert datasets.__file__ is not None
    assert Path(datasets.__file__).resolve() == ROOT / "datasets" / "__init__.py"


def test_configs_hold_no_code() -> None:
    assert list((ROOT / "configs").rglob("*.py")) == []


def test_exported_names_are_agreed_ones_and_resolve() -> None:
    exported = set(getattr(rsseg, "__all__", ()))
    assert exported <= PUBLIC
    assert all(hasattr(rsseg, name) for name in exported)
