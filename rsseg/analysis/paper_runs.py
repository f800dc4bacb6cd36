"""Runs as rows of the paper's tables: which network and method each of them is, by its settings.

Read are results.json files, which hold the settings of the run; no checkpoint is opened. Runs of
one name are several seeds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from rsseg.analysis.results import Group, RunResults, read_results
from rsseg.common.files import RunError, files_below, read_json
from rsseg.training.config import AdaptConfig, RunConfig

INETS: Final = "I-Nets"
RANDOM: Final = "random resolution"  # one of them in each step, no method of the paper
_NETWORKS: Final = {"resnet18": "ResNet-18", "resnet50": "ResNet-50", "mobilenetv2": "MobileNetV2"}
_PREACTIVATION: Final = "preact_"  # of networks with 2-bit activations
_METHODS: Final = {"none": "parallel", "full": "RS-Net"}
# What differs between seeds, or between machines.
_NOT_RECIPE: Final = {"seed", "init", "data", "workers", "device", "compile", "evaluate_every"} | {
    "checkpoint_minutes",
    "timeout_minutes",
}
PUBLISHED_CLASSES: Final = {"classification": 1000, "segmentation": 40}


@dataclass(frozen=True)
class PaperRun:
    """One run, and where it belongs.

    Args:
        folder: Its folder.
        results: Its results.
        task: Name of the head.
        network: The network as the paper writes it, such as "ResNet-18 2/32".
        method: What trained it, such as "RS-Net, multi-crop"; "I-Nets" with one resolution.
        images: What distinguishes its test images from others.
        data: Folder of its data, for people.
        area: Smallest area of its random crop; 0 without one.
        classes: Number of classes.
        weights: Digest of its weights; the path in files of earlier versions.
        recipe: All settings that seeds have in common.
    """

    folder: Path
    results: RunResults
    task: str
    network: str
    method: str
    images: str
    data: str
    area: float
    classes: int
    weights: str
    recipe: str

    @property
    def title(self) -> str:
        """Network and data in one."""
        return f"{self.network} on {self.data}" if self.data else self.network


def find_runs(places: Sequence[Path]) -> tuple[list[PaperRun], list[str]]:
    """Read all results below folders; those of one network's checkpoint become one run.

    Args:
        places: Run folders, or folders with run folders below.

    Returns:
        The runs by folder, and a message for each results.json that is left out.

    Raises:
        RunError: If a place does not exist, or there is no results.json at all.
    """
    runs: dict[str, PaperRun] = {}
    messages = []
    for path in _results_files(places):
        try:
            run = _read(path)
        except RunError as error:
            messages.append(str(error))
            continue
        known = runs.get(run.weights)
        runs[run.weights] = run if known is None else _joined(known, run)
    return list(runs.values()), messages


def _results_files(places: Sequence[Path]) -> list[Path]:
    for place in places:
        if not place.is_dir():
            raise RunError(f"{place} is not a folder; give folders of runs, or one with runs below")
    files = (path for place in places for path in files_below(place) if path.name == "results.json")
    found = sorted(dict.fromkeys(files))
    if not found:
        raise RunError(f"there is no results.json below {', '.join(map(str, places))}")
    return found


def _read(path: Path) -> PaperRun:
    results = read_results(path)
    if not results.resolutions:
        raise RunError(f"{path} does not say at which resolutions the network was trained")
    try:
        content: dict[str, Any] = read_json(path)
        config, model = content.get("config") or {}, content.get("model") or {}
        data = content.get("data") or {}
        return PaperRun(
            folder=path.parent,
            results=results,
            task=str(content["task"]),
            network=_network(model),
            method=_method(results.resolutions, config),
            images=str(data.get("names") or data.get("test_samples") or ""),
            data=Path(str((config.get("data") or {}).get("root") or "")).name,
            area=_area(config),
            classes=int(model.get("classes") or len(content.get("classes") or ())),
            weights=str(content.get("weights") or path),
            recipe=_recipe(config),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"cannot read {path} as results of a run: {error!r}") from error


def _network(model: Mapping[str, Any]) -> str:
    if "architecture" in model:
        names = str(model["architecture"]), str(model.get("encoder_name"))
        return "RefineNet-ResNet101" if names == ("refinenet", "resnet101") else "-".join(names)
    name = str(model.get("name") or "a network")
    label = _NETWORKS.get(name.removeprefix(_PREACTIVATION), name)
    if float(model.get("width") or 1) != 1:
        label += f" x{float(model['width']):g}"
    bits = model.get("quantization")
    return f"{label} {bits['weights']}/{bits['activations']}" if bits else label


def _method(resolutions: Sequence[int], config: Mapping[str, Any]) -> str:
    """Name what the settings train, in the words of published.csv."""
    adapted = ", adapted" if config.get("adapt") else ""
    if len(resolutions) <= 1:
        return INETS + adapted
    variant = str(config.get("distillation") or "none")
    method = _METHODS.get(variant, variant)
    if config.get("random_resolution"):
        method, usual = RANDOM, "shared"  # The usual training at several scales has one BatchNorm.
    else:
        usual = "private"
    batchnorm = config.get("batchnorm") or "private"
    if batchnorm != usual:
        method += f", {batchnorm} BatchNorm"
    if len(set(resolutions)) == 1:
        method += ", equal resolutions"
    if (config.get("augmentation") or {}).get("crops") == "per_resolution":
        method += ", multi-crop"
    return method + adapted


def _recipe(config: Mapping[str, Any]) -> str:
    """Return what seeds have in common: a key that an earlier version lacked is its default."""
    defaults = asdict(AdaptConfig()) if config.get("adapt") else {}
    kept = {key: value for key, value in config.items() if key not in _NOT_RECIPE}
    return json.dumps(_changed(kept, {**_defaults(), "adapt": defaults}), sort_keys=True)


def _defaults() -> dict[str, Any]:
    made = {f.name: f.default_factory() for f in fields(RunConfig) if callable(f.default_factory)}
    given = {f.name: f.default for f in fields(RunConfig) if f.default is not MISSING}
    return given | {key: asdict(value) for key, value in made.items()}


def _changed(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that are not the defaults, those of sections by section."""
    changed: dict[str, Any] = {}
    for key, value in given.items():
        default = defaults.get(key)
        if isinstance(value, Mapping):
            section = _changed(value, default if isinstance(default, Mapping) else {})
            changed |= {key: section} if section else {}
        elif value != default:
            changed[key] = value
    return changed


def _area(config: Mapping[str, Any]) -> float:
    area = (config.get("augmentation") or {}).get("area")
    return float(area[0]) if area else 0.0


def _joined(first: PaperRun, second: PaperRun) -> PaperRun:
    """Join results of one checkpoint: what a later evaluation adds is other resolutions."""
    if not (first.folder / "last.pt").is_file():  # The run itself comes before its evaluations.
        first, second = second, first
    one, other = first.results, second.results
    results = replace(
        one, metrics={**other.metrics, **one.metrics}, macs={**other.macs, **one.macs}
    )
    return replace(first, results=results)


@dataclass(frozen=True)
class Setting:
    """All runs of one network, one set of test images and one number of classes.

    Args:
        runs: At least one.
    """

    runs: tuple[PaperRun, ...]

    @property
    def first(self) -> PaperRun:
        """Any of the runs, for what they have in common."""
        return self.runs[0]

    @property
    def is_published(self) -> bool:
        """Whether the classes are as many as in the paper, whose numbers can be compared then."""
        return self.first.classes == PUBLISHED_CLASSES.get(self.first.task)

    @property
    def trained(self) -> list[int]:
        """All resolutions that a run was trained at, largest first."""
        sides = {side for run in self.runs for side in run.results.resolutions}
        return sorted(sides, reverse=True)

    def name(self, run: PaperRun) -> str:
        """Return the row of a run: its method, and what tells it from others of the setting."""
        name = run.method
        most = max(len(set(one.results.resolutions)) for one in self.runs)
        sides = sorted(set(run.results.resolutions), reverse=True)
        if 1 < len(sides) < most:
            name += f", {'+'.join(map(str, sides))}"
        areas = sorted({one.area for one in self.runs})
        name += f", area {run.area:g}" if run.area > areas[0] else ""
        alike = [
            one
            for one in self.runs
            if (one.method, one.area) == (run.method, run.area)
            and one.results.resolutions == run.results.resolutions
        ]
        # A mean over different recipes would mean nothing: the folder tells them apart.
        stem = run.folder.name.rstrip("0123456789").rstrip("_-")
        return name + (f" ({stem})" if len({one.recipe for one in alike}) > 1 else "")

    def groups(self) -> list[Group]:
        """Return the rows: those of one name are seeds; I-Nets have their own resolution alone."""
        rows: dict[str, list[RunResults]] = {}
        for run in self.runs:
            name, side = self.name(run), next(iter(run.results.resolutions), 0)
            if not run.method.startswith(INETS):
                rows.setdefault(name, []).append(run.results)
                continue
            own = {key: row for key, row in run.results.metrics.items() if key == str(side)}
            rows.setdefault(name, []).append(replace(run.results, metrics=own))
            if len(run.results.metrics) > len(own):
                lower = name.replace(INETS, f"I-{side}", 1)
                rows.setdefault(lower, []).append(run.results)
        return [
            Group(name, tuple(results))
            for name, results in sorted(rows.items(), key=lambda row: row_order(row[0]))
        ]


def row_order(name: str) -> tuple[int, str]:
    """Return the place of a row in a table: I-Nets first, then as the paper has them."""
    starts = (INETS, "I-", "parallel", "RS-Net")
    place = next((n for n, start in enumerate(starts) if name.startswith(start)), len(starts))
    return place, name


def settings_of(runs: Sequence[PaperRun]) -> list[Setting]:
    """Group runs by network, test images and number of classes, classifiers first."""
    groups: dict[tuple[str, str, str, int], list[PaperRun]] = {}
    for run in runs:
        groups.setdefault((run.task, run.network, run.images, run.classes), []).append(run)
    return [Setting(tuple(groups[key])) for key in sorted(groups)]
