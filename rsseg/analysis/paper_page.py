"""One HTML page with every table and figure of the paper that runs allow, beside its numbers.

The page stands alone: pictures are inside, nothing is loaded and no script runs. Numbers of the
paper stand in a cell where network and number of classes are the paper's, else in a table beside.

Source: Wang et al., "Resolution Switchable Networks for Runtime Efficient Image Recognition",
ECCV 2020, https://arxiv.org/abs/2007.09558.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from html import escape
from io import BytesIO
from pathlib import Path
from shlex import quote
from typing import Final

from matplotlib.figure import Figure

from rsseg.analysis import features
from rsseg.analysis.accuracy_plot import Axis, plot_accuracy
from rsseg.analysis.batchnorms import channel_means, plot_batchnorms
from rsseg.analysis.curves import plot_curves
from rsseg.analysis.disagreement import disagreement
from rsseg.analysis.disagreement import layout as disagreement_text
from rsseg.analysis.gains import gains_table, plot_gains, read_gains
from rsseg.analysis.paper_items import ITEMS, Item
from rsseg.analysis.paper_runs import INETS, PaperRun, Setting, row_order, settings_of
from rsseg.analysis.published import Number, read_numbers
from rsseg.analysis.results import Group, columns_of, mean_and_range, metrics_of
from rsseg.common.device import choose_device
from rsseg.common.files import RunError
from rsseg.common.messages import counted
from rsseg.load import load_checkpoint

Table = list[list[str]]
Scenes = Callable[[dict[str, Path]], Figure]
_SCRIPTS: Final = {"classification": "train_cls.py", "segmentation": "train_seg.py"}
_ALL: Final = {224, 192, 160, 128, 96}
# Rows that are named by what is tested or compared, and what was trained.
_METHODS: Final = {
    "I-224": INETS,
    "widths": INETS,
    "parallel less shared BatchNorm": "parallel, shared BatchNorm",
}
_IMAGES: Final = 500  # of Fig. 3: 32000 features of the smallest networks and more
_LINES: Final = 4  # networks of Fig. 8
_PAPER: Final = "https://arxiv.org/abs/2007.09558"
_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem;
  color: #1b1f24; background: #fff; }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; }
h3 { font-size: 1rem; margin-bottom: .3rem; }
table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; }
td, th { padding: .2rem .7rem; border-bottom: 1px solid #e3e6ea; text-align: right; }
td:first-child, th:first-child, td:nth-child(2), th:nth-child(2) { text-align: left; }
th { background: #f4f6f8; } .paper { color: #9a4a00; white-space: nowrap; }
.scroll { overflow-x: auto; } img { max-width: 100%; height: auto; } figure { margin: 1rem 0; }
pre { background: #f4f6f8; padding: .7rem; overflow-x: auto; font-size: .8rem; }
summary { cursor: pointer; } .none { color: #666; }
"""


def report(
    runs: Sequence[PaperRun],
    messages: Sequence[str],
    images: Path | None = None,
    scenes: Scenes | None = None,
) -> str:
    """Lay out the page.

    Args:
        runs: The runs, see `find_runs`.
        messages: What was left out, for the reader.
        images: Folder of images for Fig. 3; None leaves it out.
        scenes: Draws Fig. 8 of segmenters, given their checkpoints by name; None leaves it out.
    """
    settings, numbers = settings_of(runs), read_numbers()
    parts = [_beginning(runs, messages)]
    parts += [_table_1(settings, numbers)]
    parts += [_item(item, settings, numbers) for item in ITEMS]
    parts += [*_figures(settings, images), _fig_8(settings, scenes)]
    names = [part.partition("<h2>")[2].partition(":")[0] for part in parts[1:]]
    links = " ".join(f'<a href="#{_anchor(name)}">{name}</a>' for name in names)
    body = "\n".join([parts[0], f"<p>{links}</p>", *parts[1:]])
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Resolution switchable networks: measured and published</title>"
        f"<style>{_STYLE}</style></head>\n<body>{body}</body></html>\n"
    )


def _anchor(name: str) -> str:
    """Return the id of a section, which must have no space."""
    return name.replace(" ", "-")


def _section(name: str, title: str, content: Sequence[str]) -> str:
    body = "\n".join(content)
    return (
        f'<section id="{_anchor(name)}"><h2>{escape(name)}: {escape(title)}</h2>\n{body}</section>'
    )


def _beginning(runs: Sequence[PaperRun], messages: Sequence[str]) -> str:
    notes = "".join(f"<li>{escape(message)}</li>" for message in messages)
    return (
        "<h1>Resolution switchable networks: measured and published</h1>"
        f"<p>{len(runs)} runs, beside the numbers of "
        f"<a href='{_PAPER}'>Wang et al., ECCV 2020</a>. "
        "Values are percent unless said otherwise. Several seeds are their mean, with the smallest "
        'and the largest in brackets. <span class="paper">Brown numbers are published</span>, for '
        "ImageNet (1000 classes) or NYUDv2 (40); they stand beside a measured one where network, "
        "classes and resolution are the paper's.</p>"
        + (f"<p>Left out:</p><ul>{notes}</ul>" if notes else "")
    )


def _html_table(rows: Table) -> str:
    """Lay out rows of cells that are HTML already; the first is the head."""
    head = "".join(f"<th>{cell}</th>" for cell in rows[0])
    lines = ["".join(f"<td>{cell}</td>" for cell in row) for row in rows[1:]]
    body = "".join(f"<tr>{line}</tr>\n" for line in lines)
    return f'<div class="scroll"><table><tr>{head}</tr>\n{body}</table></div>'


def _picture(figure: Figure, caption: str) -> str:
    stream = BytesIO()
    figure.savefig(stream, dpi=110, format="png")
    data = base64.b64encode(stream.getvalue()).decode("ascii")
    text = escape(caption)
    return (
        f'<figure><img alt="{text}" src="data:image/png;base64,{data}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def _drawn(draw: Callable[[], Figure], caption: str) -> str:
    """Draw a picture, or say what stands against it: one damaged file must not cost the page."""
    try:
        return _picture(draw(), caption)
    except (ValueError, OSError) as error:
        return f'<p class="none">{escape(caption)}: {escape(str(error))}</p>'


def _none(text: str) -> str:
    return f'<p class="none">{escape(text)}</p>'


def _item(item: Item, settings: Sequence[Setting], numbers: list[Number]) -> str:
    published = item.published(numbers)
    content = []
    for setting in settings:
        own = tuple(run for run in setting.runs if item.takes(run))
        if item.is_shown_by(own):
            content.append(f"<h3>{escape(setting.first.title)}</h3>")
            content += _measured(item, Setting(own), published)
    if not content:
        content = [_none("No run given is of this item.")]
    content += [_published_table(published), _missing(item, settings, numbers)]
    return _section(item.name, item.title, content)


def _measured(item: Item, own: Setting, published: Sequence[Number]) -> list[str]:
    """Return the table of one network and data set, and the pictures that the item has."""
    if "alpha" in item.needs:
        return [_alpha_table(own, published)]
    parts = [_measured_table(own, published)]
    inets = [run for run in own.runs if run.method == INETS]
    others = [run for run in own.runs if not run.method.startswith(INETS)]
    if item.name in ("Table 2", "Table 3", "Table 7", "Fig. 9") and inets and others:
        parts.append(_gains(own, inets, others))
    if item.name in ("Table 8", "Fig. 4"):
        parts.append(_by_axis(own, "resolution"))
    if item.name == "Table 4":
        parts.append(_by_axis(own, "macs"))
    return parts


def _measured_table(own: Setting, published: Sequence[Number]) -> str:
    groups = own.groups()
    runs = [run for group in groups for run in group.runs]
    columns = columns_of(runs)
    rows: Table = [["method", "metric", "runs", *map(escape, columns)]]
    for group in groups:
        for metric in metrics_of(runs):
            cells = [_cell(own, group, metric, column, published) for column in columns]
            head = [escape(group.name), metric.replace("_", " "), str(len(group.runs))]
            rows.append([*head, *cells])
    return _html_table(rows)


def _cell(own: Setting, group: Group, metric: str, column: str, published: Sequence[Number]) -> str:
    text = escape(mean_and_range(group.values(column, metric)))
    side = column.partition("_")[0]
    values = [
        number.value
        for number in published
        if own.is_published
        and (number.network, number.name, number.metric) == (own.first.network, group.name, metric)
        and str(number.resolution) == side
    ]
    return f'{text} <span class="paper">{values[0]:.1f}</span>' if values else text


def _alpha_table(own: Setting, published: Sequence[Number]) -> str:
    """Lay out the shares as if they were a metric, which they are in published.csv."""
    runs = tuple(
        replace(run, results=replace(run.results, metrics=_shares(run)))
        for run in own.runs
        if run.results.alpha
    )
    return _measured_table(Setting(runs), published)


def _shares(run: PaperRun) -> dict[str, dict[str, float]]:
    return {name: {"alpha": share} for name, share in run.results.alpha.items()}


def _paths(runs: Sequence[PaperRun]) -> list[Path]:
    return [run.folder for run in runs]


def _gains(own: Setting, inets: Sequence[PaperRun], others: Sequence[PaperRun]) -> str:
    names = [own.name(run) for run in others]
    if len({own.name(run) for run in inets}) > 1:  # A mean over them would mean nothing.
        return _none(
            "The I-Nets are of several recipes: give the page those of one, or choose them with "
            "`rsseg gains --base`, for the change against them."
        )
    try:
        gains = read_gains(_paths(others), _paths(inets), names=names)
    except ValueError as error:
        return _none(str(error))
    text = f"<pre>{escape(gains_table(gains))}</pre>"
    return text + _drawn(lambda: plot_gains(gains), f"{own.first.title}: change against the I-Nets")


def _by_axis(setting: Setting, axis: Axis) -> str:
    where = "multiply-adds" if axis == "macs" else "resolution"
    return _drawn(
        partial(_accuracy, setting, axis),
        f"{setting.first.title}: against {where}; hollow: not trained",
    )


def _accuracy(setting: Setting, axis: Axis, points: Sequence[Number] = ()) -> Figure:
    """Draw the rows of a setting, with what later evaluations have added to its runs."""
    rows = [(group.name, run) for group in setting.groups() for run in group.runs if run.metrics]
    names, runs = zip(*rows, strict=True)
    return plot_accuracy(runs, axis=axis, names=names, points=points)


def _published_table(published: Sequence[Number]) -> str:
    if not published:
        return _none("The paper prints no number of it.")
    columns = list(dict.fromkeys(_column(number) for number in published))
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for number in published:
        row = lines.setdefault((number.label, number.metric), {})
        row[_column(number)] = f'<span class="paper">{number.value:.1f}</span>'
    rows: Table = [["published", "metric", *columns]]
    rows += [
        [escape(label), metric.replace("_", " "), *(cells.get(column, "") for column in columns)]
        for (label, metric), cells in lines.items()
    ]
    return f"<h3>Published</h3>{_html_table(rows)}"


def _column(number: Number) -> str:
    if number.item == "Table 4" and number.macs is not None:
        return f"{number.macs / 1e6:.0f} M"
    return str(number.resolution)


def _missing(item: Item, settings: Sequence[Setting], numbers: Sequence[Number]) -> str:
    """List the commands of the paper's runs that are not among those given."""
    runs = [run for setting in settings if setting.is_published for run in setting.runs]
    configs = dict.fromkeys(n.config for n in numbers if n.item == item.name and n.config)
    configs.update(dict.fromkeys(item.configs))
    wanted = [c for c in configs if not any(_is_of(run, c, numbers) for run in runs)]
    script = _SCRIPTS[item.task]
    lines = [f"python {script} configs/{config}.yaml --set data.root=PATH" for config in wanted]
    if item.tests_below:
        lines += [line for setting in settings for line in _tests_below(item, setting)]
    sides = {str(side) for side in item.unseen}
    lines += [
        _test(run, item.unseen, "unseen")
        for run in runs
        if sides - set(run.results.metrics)
        and any(_is_of(run, config, numbers) for config in item.tested)
    ]
    if not lines:
        return ""
    text = escape("\n".join(lines))
    return (
        f"<details><summary>{counted(len(lines), 'command')} for what is missing</summary>"
        f"<pre>{text}</pre></details>"
    )


def _is_of(run: PaperRun, config: str, published: Sequence[Number]) -> bool:
    """Return whether a run is of a configuration of the paper, by its settings."""
    stem = config.rpartition("/")[2]
    rows = [number for number in published if number.config == config]
    trained = set(run.results.resolutions)
    area = 0.3 if stem.endswith("_area030") else 0.08
    if run.task == "classification" and run.area not in (0.0, area):
        return False
    if stem.startswith("parallel_224") or not rows:  # Fig. 9: the name says all.
        sides = {int(word) for word in re.findall(r"(?:_|inet)(\d{2,3})(?=_|$)", stem)} or _ALL
        method = INETS if stem.startswith("inet") else "parallel"
        return (run.network, run.method, trained) == ("ResNet-18", method, sides)
    width = re.search(r"_width(\d)(\d+)$", stem)
    network = rows[0].network + (f" x{int(width[1] + width[2]) / 100:g}" if width else "")
    method = _METHODS.get(rows[0].name, rows[0].name)
    # Table 8 and the row I-224 have resolutions that are only tested.
    rows = [number for number in rows if number.name != "I-224"]
    seen = {n.resolution for n in rows if n.resolution is not None}
    sides = seen & _ALL if run.task == "classification" else seen
    return (run.network, run.method) == (network, method) and sides <= trained


def _tests_below(item: Item, setting: Setting) -> Iterator[str]:
    """Yield the command that tests the I-Net of the largest resolution at the others."""
    sides = setting.trained
    for run in setting.runs:
        own = run.method == INETS and run.results.resolutions == (sides[0],)
        if own and item.takes(run) and len(sides) > 1 and len(run.results.metrics) == 1:
            yield _test(run, sides, "lower")


def _test(run: PaperRun, sides: Sequence[int], ending: str) -> str:
    """Return the command that tests a run at resolutions, into a folder beside it."""
    checkpoint, out = quote(str(run.folder / "last.pt")), quote(f"{run.folder}_{ending}")
    resolutions = " ".join(map(str, sides))
    return (
        f"python {_SCRIPTS[run.task]} --evaluate {checkpoint} --resolutions {resolutions} "
        f"--out {out}"
    )


def _table_1(settings: Sequence[Setting], numbers: list[Number]) -> str:
    content = []
    for setting in settings:
        folders = [run.folder for run in setting.runs if (run.folder / "correctness.npz").is_file()]
        if folders:
            content.append(f"<h3>{escape(setting.first.title)}</h3>")
            try:
                text = escape(disagreement_text(disagreement(folders)))
                content.append(f"<pre>{text}</pre>")
            except ValueError as error:
                content.append(_none(str(error)))
    # Laid out as the matrix above: the row is the wrong one.
    published = [
        replace(
            number,
            resolution=int(number.metric.removeprefix("right_at_")),
            metric=f"wrong_at_{number.resolution}",
        )
        for number in numbers
        if number.item == "Table 1"
    ]
    published.sort(key=lambda number: -(number.resolution or 0))
    content = content or [_none("No run given has a correctness.npz, which classifiers write.")]
    title = "right at the column, wrong at the row"
    return _section("Table 1", title, [*content, _published_table(published)])


def _figures(settings: Sequence[Setting], images: Path | None) -> list[str]:
    networks = [run for setting in settings for run in _one_of_each(setting)]
    several = [run for run in networks if len(run.results.resolutions) > 1]
    fig_1 = [
        _drawn(partial(_fig_1, setting), f"{setting.first.title}: against multiply-adds")
        for setting in settings
    ]
    fig_6 = [
        _drawn(partial(_fig_6, run), f"{run.title}, {run.method}: {run.folder.name}")
        for run in several
    ]
    logs = [run.folder for run in several if (run.folder / "log.jsonl").is_file()]
    curves = [_drawn(partial(plot_curves, logs), "a row for each run")] if logs else []
    none = _none("No run given shows it.")
    fig_3 = _none("Give --images DIR, a folder of test images, to have it drawn.")
    if images is not None:
        fig_3 = _drawn(partial(_fig_3, networks, images), f"images of {images.name}")
    return [
        _section("Fig. 1", "accuracy against multiply-adds", fig_1 or [none]),
        _section("Fig. 3", "pooled features under training and test preprocessing", [fig_3]),
        _section("Fig. 6", "BatchNorm sets by layer", fig_6 or [none]),
        _section("Curves", "losses, metric and alpha over a run", curves or [none]),
    ]


def _one_of_each(setting: Setting) -> list[PaperRun]:
    """Return the first seed of each row at each set of resolutions."""
    first: dict[tuple[str, tuple[int, ...]], PaperRun] = {}
    for run in setting.runs:
        first.setdefault((setting.name(run), run.results.resolutions), run)
    return list(first.values())


def _fig_1(setting: Setting) -> Figure:
    """Draw a setting against multiply-adds; the paper's points beside where they compare."""
    compared = setting.is_published and setting.first.network.startswith("MobileNetV2")
    points = [number for number in read_numbers() if number.item == "Table 4"]
    return _accuracy(setting, "macs", points if compared else ())


def _fig_3(networks: Sequence[PaperRun], images: Path) -> Figure:
    """Draw the features of the classifiers that have a checkpoint."""
    device, files = choose_device("auto"), features.find_samples(images, _IMAGES)
    rows: list[features.Distribution] = []
    for run in networks:
        if run.task == "classification" and (run.folder / "last.pt").is_file():
            opened = features.open_classifier(run.folder)
            rows += features.distributions(opened, files, device=device)
    if not rows:
        raise RunError("no run given is a classifier with its last.pt")
    return features.plot_features(rows)


def _fig_6(run: PaperRun) -> Figure:
    net, _, _ = load_checkpoint(run.folder / "last.pt")
    return plot_batchnorms(channel_means(net.network))


def _fig_8(settings: Sequence[Setting], scenes: Scenes | None) -> str:
    """Draw the segmenters of each setting on the same photos."""
    networks = [(setting.first.title, _checkpoints(setting)) for setting in settings]
    if scenes is None:
        content = [_none("Give --scenes DIR, a folder of photos, to have it drawn.")]
    else:
        content = [_drawn(partial(scenes, own), title) for title, own in networks if own]
    title = "label maps of photos at each resolution"
    return _section("Fig. 8", title, content or [_none("No run given is a segmenter.")])


def _checkpoints(setting: Setting) -> dict[str, Path]:
    """Return the checkpoints of segmenters by row: the I-Net of the largest side, and others."""
    files = {
        setting.name(run): run.folder / "last.pt"
        for run in _one_of_each(setting)
        if run.task == "segmentation"
        and (len(run.results.resolutions) > 1 or run.results.resolutions[0] == setting.trained[0])
    }
    known = [(name, path) for name, path in files.items() if path.is_file()]
    return dict(sorted(known, key=lambda row: row_order(row[0]))[:_LINES])
