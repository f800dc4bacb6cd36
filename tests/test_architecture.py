"""The rules of who may import whom, each as a table; where things live is in CONTRIBUTING.md.

Files are read, not imported. The last tests show that the checker finds what it is to find.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import datasets
import rsseg
from tests.helpers.import_graph import (
    ROOT,
    Graph,
    below,
    circles,
    forbidden_arrows,
    grouped,
    import_graph,
    imports,
    modules_in_strings,
    name_of,
    reachable,
    sources,
)

# What is installed or run; tests may import whatever they like.
TEXTS = sources("rsseg", "classification", "datasets", "benchmarks", "")
GRAPH = import_graph(TEXTS)
MOST_MODULES = 26  # in a folder

# Which of our folders and scripts each of them may import. Only the scripts know all.
TOP = {"rsseg", "classification", "datasets", "configs", "benchmarks", "tests"}
TOP |= {"train_cls", "train_seg"}
TOP_MAY_IMPORT: dict[str, set[str]] = {
    "rsseg": set(),
    "classification": {"rsseg"},
    "datasets": {"rsseg"},
    "train_cls": {"rsseg", "classification", "datasets"},
    "train_seg": {"rsseg", "datasets"},
    "benchmarks": {"rsseg", "classification", "datasets"},
}

# The rooms of rsseg, from the ground up, and which others each may import.
GROUND = {"common", "switchable", "losses", "images"}
MIDDLE = GROUND | {"quantization", "training", "weights"}
TASKS = MIDDLE | {"classifiers", "segmentation"}
LIBRARY = TASKS | {"heads", "load", "save", "batch_views", "hub", "analysis", "runtime", "doctor"}
MAY_IMPORT: dict[str, set[str]] = {
    "common": set(),
    "losses": set(),
    "images": set(),
    "switchable": {"common"},
    "quantization": GROUND,
    "weights": GROUND | {"quantization"},
    "training": GROUND | {"weights"},
    "classifiers": MIDDLE,
    "segmentation": MIDDLE,
    "heads": TASKS,
    "load": TASKS | {"heads"},
    "batch_views": TASKS,
    "save": TASKS | {"heads", "load"},
    "model_card": TASKS | {"heads", "load", "runtime"},
    "hub": TASKS | {"load", "runtime", "model_card"},
    "doctor": TASKS | {"load"},
    "analysis": TASKS | {"heads", "load"},
    # Reports on cascades and latencies read the results of runs, which `analysis` reads for all.
    "runtime": TASKS | {"heads", "load", "analysis"},
    "cli": LIBRARY | {"__init__"},
    "__init__": LIBRARY,
    "__main__": {"cli"},
}

# Where a user comes in. All that is not reached from here is dead.
ENTRY_POINTS = {
    "rsseg",
    "rsseg.cli.main",
    "rsseg.segmentation",
    "rsseg.runtime.cascade.cascade",  # Python only, see docs/RUNTIME.md
    "datasets.check",
    "train_cls",
    "train_seg",
}

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
    "Preprocessing",
    "views",
    "save_checkpoint",
    "HubNet",
}


def top_of(module: str) -> str:
    return module.partition(".")[0]


def room_of(module: str) -> str:
    """Return the room of a module of rsseg: its folder, or itself if it lies in none."""
    return "__init__" if module == "rsseg" else module.split(".")[1]


def rsseg_graph() -> Graph:
    inside = {m: {i for i in ours if below(i, "rsseg")} for m, ours in GRAPH.items()}
    return {module: ours for module, ours in inside.items() if below(module, "rsseg")}


# Folders


@pytest.mark.parametrize("top", TOP_MAY_IMPORT)
def test_folder_imports_the_folders_it_may_and_no_other(top: str) -> None:
    texts = {module: text for module, text in TEXTS.items() if top_of(module) == top}
    faults = [
        f"{module} imports {name}"
        for module, text in texts.items()
        for name in imports(text, module)
        if top_of(name) in TOP - TOP_MAY_IMPORT[top] - {top}
    ]
    assert texts
    assert faults == []


def test_every_folder_with_code_is_in_the_table() -> None:
    assert {top_of(module) for module in TEXTS} == set(TOP_MAY_IMPORT)
    assert list((ROOT / "configs").rglob("*.py")) == []


def test_no_folder_holds_too_many_modules() -> None:
    folders = {p.parent for top in TOP for p in (ROOT / top).rglob("*.py")}
    sizes = {name_of(folder / "__init__.py"): len(list(folder.glob("*.py"))) for folder in folders}
    assert {name: size for name, size in sizes.items() if size > MOST_MODULES} == {}


# Rooms of rsseg


def test_room_imports_what_stands_below_it_and_nothing_else() -> None:
    rooms = grouped(rsseg_graph(), room_of)
    assert forbidden_arrows(rooms, MAY_IMPORT) == []


def test_every_room_is_in_the_table() -> None:
    assert {room_of(module) for module in rsseg_graph()} <= set(MAY_IMPORT)


def test_core_knows_no_quantiser_and_no_task() -> None:
    core = [m for m in rsseg_graph() if room_of(m) in ("switchable", "losses")]
    reached = {room_of(module) for module in reachable(GRAPH, core)}
    assert reached == {"switchable", "losses", "common"}


def test_no_module_and_no_room_imports_itself_through_others() -> None:
    assert circles(GRAPH) == []
    assert circles(grouped(rsseg_graph(), room_of)) == []


def test_no_import_hides_from_the_interpreter() -> None:
    assert [module for module, text in TEXTS.items() if "TYPE_CHECKING" in text] == []


def test_scripts_import_nothing_of_ours_before_they_say_where_it_is() -> None:
    ours = re.compile(rf"^(from|import) ({'|'.join(TOP)})\b", re.MULTILINE)
    starts = {module: text.partition("if not __package__:") for module, text in TEXTS.items()}
    scripts = {module: start for module, (start, mark, _) in starts.items() if mark}
    assert "benchmarks.step" in scripts
    assert [module for module, start in scripts.items() if ours.search(start)] == []


def test_every_module_is_reached_from_an_entry_point() -> None:
    graph = {
        module: ours | set(modules_in_strings(TEXTS[module])) for module, ours in GRAPH.items()
    }
    programs = {module for module in TEXTS if module.endswith(".__main__")}
    reached = reachable(graph, ENTRY_POINTS | programs)
    packages = {module.rpartition(".")[0] for module in TEXTS}
    unused = set(TEXTS) - reached - packages
    # Each benchmark is a program; what it alone imports is dead all the same.
    assert sorted(module for module in unused if not below(module, "benchmarks")) == []


def test_albumentations_is_imported_by_the_augmentation_only() -> None:
    users = {m for m, text in TEXTS.items() for i in imports(text, m) if below(i, "albumentations")}
    assert users == {"rsseg.segmentation.augmentation"}


# Names


def test_datasets_is_the_folder_of_this_checkout() -> None:
    assert datasets.__file__ is not None
    assert Path(datasets.__file__).resolve() == ROOT / "datasets" / "__init__.py"


def test_exported_names_are_agreed_ones_and_resolve() -> None:
    exported = set(getattr(rsseg, "__all__", ()))
    assert exported <= PUBLIC
    assert all(hasattr(rsseg, name) for name in exported)


# The checker itself, on small sources


def test_every_spelling_of_an_import_is_seen() -> None:
    source = "import a.b as x\nfrom c import d\nfrom . import e\nfrom .f import g\n"
    source += "def h():\n    from ..i import j\n"
    expected = {"a.b", "c.d", "p.q.e", "p.q.f.g", "p.i.j"}
    assert set(imports(source, "p.q.module")) == expected
    assert set(imports("from . import e", "p.q", package=True)) == {"p.q.e"}


def test_imported_name_stands_for_the_module_that_holds_it() -> None:
    texts = {"p": "", "p.a": "from p import b\nfrom p.b import name\nimport torch", "p.b": ""}
    assert import_graph(texts) == {"p": set(), "p.a": {"p.b"}, "p.b": set()}
    assert import_graph({"p": "from .a import x", "p.a": ""})["p"] == {"p.a"}


def test_circle_is_found() -> None:
    texts = {"p.a": "import p.b", "p.b": "import p.c", "p.c": "import p.a", "p.d": "import p.a"}
    assert circles(import_graph(texts)) == [["p.a", "p.b", "p.c"]]


def test_circle_through_an_import_inside_a_function_is_found() -> None:
    hidden = "class B:\n    def f(self):\n        if self:\n            from p.a import x"
    assert circles(import_graph({"p.a": "from p import b", "p.b": hidden})) == [["p.a", "p.b"]]


def test_circle_between_rooms_is_found_where_no_modules_form_one() -> None:
    texts = {"rsseg.r.a": "import rsseg.s.a", "rsseg.s.b": "import rsseg.r.b"}
    graph = import_graph(texts | {"rsseg.s.a": "", "rsseg.r.b": ""})
    assert circles(graph) == []
    assert circles(grouped(graph, room_of)) == [["r", "s"]]


def test_forbidden_arrow_is_found_and_an_unknown_room_may_import_nothing() -> None:
    texts = {"rsseg.common.a": "def f():\n    from rsseg.training import a", "rsseg.training.a": ""}
    rooms = grouped(import_graph(texts | {"rsseg.new.a": "import rsseg.common.a"}), room_of)
    expected = ["common imports training", "new imports common"]
    assert forbidden_arrows(rooms, MAY_IMPORT) == expected


def test_module_that_nobody_imports_is_not_reached() -> None:
    texts = {"p.main": "import p.a", "p.a": "", "p.dead": "import p.island", "p.island": ""}
    assert reachable(import_graph(texts), ["p.main"]) == {"p.main", "p.a"}
