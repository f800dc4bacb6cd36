"""How time and memory grow with the number of resolutions, the batch, the pixels, the classes.

The step grows with S; the pixel-wise loss with B, H x W and K. Each is measured at a few points
and fitted by a line; "exponent" is the slope between logarithms, at most 1 for what grows no
faster than linearly. Plots are written beside the results.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

if not __package__:  # Run as a script: nothing is installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import pixelwise, step
from benchmarks.harness import Case, Measured, append, context, number
from benchmarks.runner import make_parser, run
from rsseg.common.files import written_whole
from rsseg.losses.pixelwise import pixelwise_mred_loss

SHARES = (1.0, 0.64, 0.28)  # Of the largest view's side: 352, 224 and 96 pixels.
_MIB = 2**20


class Fit(NamedTuple):
    """A line through points (x, y), and how well it tells what is there.

    Attributes:
        slope: Of the line.
        intercept: Of the line at 0.
        r2: Share of the variance that the line explains, 1 for a perfect one.
        exponent: Slope of the line through (log x, log y).
    """

    slope: float
    intercept: float
    r2: float
    exponent: float


def fit(x: Sequence[float], y: Sequence[float]) -> Fit:
    """Fit a line by least squares.

    Example:
        >>> fit([1, 2, 4], [3, 6, 12]).exponent
        1.0
    """
    xs, ys = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    slope, intercept = np.polyfit(xs, ys, 1)
    variance = ((ys - ys.mean()) ** 2).sum()
    error = ((ys - (slope * xs + intercept)) ** 2).sum()
    r2 = 1 - error / variance if variance > 0 else 1.0
    # Nothing measurable counts as next to nothing, so that its logarithm exists.
    exponent = np.polyfit(np.log(xs), np.log(np.maximum(ys, 1e-9)), 1)[0]
    return Fit(float(slope), float(intercept), float(r2), round(float(exponent), 6))


def step_case(options: argparse.Namespace) -> Case:
    """Yield our step at S resolutions of one size, for each S."""
    side, batch = options.side, options.batch
    variants = {}
    for count in (1, 2, 4, 8) if options.short else range(1, 9):
        sizes = step.Sizes((side,) * count, batch, 1000, options.device)
        variants[str(count)] = partial(step.ours, sizes, step.Form())
    return Case("step against S", variants, {"side": side, "batch": batch, "unit": "resolutions"})


def loss_cases(options: argparse.Namespace) -> Iterator[Case]:
    """Yield the pixel-wise loss against batch, pixels and classes, each with the others fixed."""
    side, classes = options.label_side, 40
    batches = (1, 2, 4, 8) if options.short else (1, 2, 4, 6, 8, 12, 16)
    sides = [round(side * share) for share in (0.5, 0.7, 1.0, 1.4)]
    counts = (10, 20, 40, 80) if options.short else (10, 20, 40, 60, 80, 120, 150)
    grown = {
        ("loss against B", "batch", "images"): {b: (side, b, classes) for b in batches},
        ("loss against H x W", "side", "pixels"): {s * s: (s, 2, classes) for s in sides},
        ("loss against K", "classes", "classes"): {k: (side, 2, k) for k in counts},
    }
    for (name, moved, unit), points in grown.items():
        variants = {}
        for x, (largest, batch, number_of_classes) in points.items():
            resolutions = tuple(round(largest * share) for share in SHARES)
            sizes = pixelwise.Sizes(resolutions, batch, number_of_classes, options.device)
            variants[str(x)] = partial(pixelwise.loss_work, pixelwise_mred_loss, sizes)
        fixed: dict[str, object] = {"side": side, "batch": 2, "classes": classes}
        del fixed[moved]
        yield Case(name, variants, {**fixed, "unit": unit})


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """Yield one case for each quantity; its variants are named by it."""
    yield step_case(options)
    yield from loss_cases(options)


def finish(options: argparse.Namespace, case: Case, measured: list[Measured]) -> None:
    """Fit and plot a case, print the fits, and append its record."""
    x = [float(m.variant) for m in measured]
    grown = {"milliseconds": [1000 * statistics.median(m.times) for m in measured]}
    if all(m.memory is not None for m in measured):
        grown["MiB"] = [(m.memory or 0) / _MIB for m in measured]
    fits = {name: fit(x, y) for name, y in grown.items()}
    print(f"\n{case.name}")
    for name, values in grown.items():
        f, listed = fits[name], ", ".join(map(number, values))
        print(
            f"  {name} at {', '.join(m.variant for m in measured)} {case.sizes['unit']}: {listed}; "
            f"slope {number(f.slope)}, R^2 {f.r2:.4f}, exponent {f.exponent:.2f}"
        )
    described = {name: f._asdict() for name, f in fits.items()}
    append(options.out, [{**context(options, case), "x": x, **grown, "fits": described}])
    figure = plot(case, x, grown, fits)
    picture = options.out.parent / f"growth_{case.name.replace(' ', '_')}.png"
    with written_whole(picture) as temporary:
        figure.savefig(temporary, dpi=120)


def plot(case: Case, x: list[float], grown: dict[str, list[float]], fits: dict[str, Fit]) -> Figure:
    """Draw the points and the line of each quantity side by side."""
    figure = Figure(figsize=(4.5 * len(grown), 3.4), layout="constrained")
    axes: Sequence[Axes] = figure.subplots(1, len(grown), squeeze=False)[0]
    for part, (name, values) in zip(axes, grown.items(), strict=True):
        f = fits[name]
        part.plot(x, values, "o", label="measured")
        ends = np.array([0.0, max(x)])
        part.plot(ends, f.slope * ends + f.intercept, label=f"line, R^2 {f.r2:.3f}")
        part.set(xlabel=case.sizes["unit"], ylabel=name, title=case.name)
        part.set_ylim(bottom=0)
        part.grid(alpha=0.3)
        part.legend()
    return figure


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = make_parser("growth", str(__doc__))
    parser.add_argument("--side", type=int, default=96, help="of the step's views (default: 96)")
    parser.add_argument("--batch", type=int, default=8, help="of the step (default: 8)")
    parser.add_argument("--label-side", type=int, default=256, help="of the loss (default: 256)")
    return run(__file__, parser, cases, arguments, finish=finish)


if __name__ == "__main__":
    sys.exit(main())
