"""What importing costs: `import rsseg` and help load no torch, the method no other library."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import rsseg
from tests.helpers.processes import ROOT

HEAVY = ("torchvision", "timm", "segmentation_models_pytorch", "matplotlib", "torchmetrics", "cv2")


def loaded(code: str) -> set[str]:
    """Return the packages that a fresh interpreter has loaded after running some code."""
    tail = "\nimport sys\nprint('\\n' + ' '.join(sys.modules))"
    command = [sys.executable, "-c", code + tail]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}


def test_import_alone_loads_nothing_else() -> None:
    assert not loaded("import rsseg\nrsseg.__version__") & {"torch", "numpy", *HEAVY}


def test_method_loads_torch_and_no_other_library() -> None:
    code = "from rsseg import SwitchableNet, mred_loss, pixelwise_mred_loss, recalibrate, switch"
    modules = loaded(code)
    assert "torch" in modules
    assert not modules & set(HEAVY)


def test_reading_results_and_checkpoints_loads_no_library_of_networks() -> None:
    modules = loaded("import rsseg.load, rsseg.analysis.results, rsseg.segmentation")
    assert not modules & set(HEAVY)


@pytest.mark.parametrize("verb", ["", "profile", "export", "doctor"])
def test_help_loads_no_torch(verb: str) -> None:
    arguments = [verb, "--help"] if verb else ["--help"]
    code = f"""
from rsseg.cli.main import main
try:
    main({arguments})
except SystemExit as end:
    assert end.code == 0
"""
    assert not loaded(code) & {"torch", "pydantic", *HEAVY}


def test_command_tells_its_version_and_runs_as_a_module() -> None:
    done = [
        subprocess.run(
            [sys.executable, "-m", module, "--version"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for module in ("rsseg", "rsseg.cli.main")
    ]
    assert done == [f"rsseg {rsseg.__version__}\n"] * 2


def test_types_of_the_stub_are_those_of_the_public_names() -> None:
    tree = ast.parse(Path(rsseg.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    stub = {
        alias.name: node.module
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert stub == vars(rsseg)["_MODULES"]
    assert set(rsseg.__all__) == set(stub)


def test_every_public_name_resolves_and_an_unknown_one_is_an_attribute_error() -> None:
    for name in rsseg.__all__:
        assert getattr(rsseg, name).__name__ == name
        assert name in dir(rsseg)
    with pytest.raises(AttributeError, match="module 'rsseg' has no attribute 'nothing'"):
        rsseg.nothing  # type: ignore[attr-defined]  # noqa: B018
