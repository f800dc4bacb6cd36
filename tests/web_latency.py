"""Measure how long a network takes in the browser: a table for docs/RUNTIME.md.

    rsseg export runs/rsnet/last.pt --web demo
    python -m tests.web_latency demo

Opens folders of `rsseg export --web` in a headless Chromium, and lets each page predict its sample
(468x348) at every resolution in turn. The times are those that the page shows; the machine should
be idle.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import torch

from benchmarks.machine import describe
from rsseg.common.messages import markdown_table
from rsseg.runtime.web.runtime_files import VERSION
from tests.helpers.browser import DESKTOP, choose, chromium, opened_page, sync
from tests.helpers.file_server import served

STAGES: Final = ("view", "network", "answer")
WARM_UP: Final = 2  # rounds
# Rounds over all resolutions, so that a load of the machine meets all of them.
MEASURE: Final = """async ([rounds, resolutions]) => {
  const rows = [];
  for (let round = 0; round < rounds; round++)
    for (const resolution of resolutions) {
      const { ms, stages } = await engine.predict(image, { resolution });
      rows.push([resolution, ms, ...stages.map(([, value]) => value)]);
    }
  return rows;
}"""

Times = Mapping[int, Sequence[float]]  # medians by resolution: the whole, then the stages, in ms


def measure(page: sync.Page, rounds: int, image: Path | None = None) -> Times:
    """Return the times of an opened page at each trained resolution."""
    if image is None:
        page.get_by_role("button", name="Sample").click()
    else:
        choose(page, image.read_bytes(), image.name, image.suffix.lstrip("."))
    sync.expect(page.locator("#spoken")).to_contain_text("pixels")
    sides: list[int] = page.evaluate("model.resolutions")
    rows = page.evaluate(MEASURE, [WARM_UP + rounds, sides])[WARM_UP * len(sides) :]
    return {side: medians([row[1:] for row in rows if row[0] == side]) for side in sides}


def medians(rows: Sequence[Sequence[float]]) -> list[float]:
    """Return the median of each column."""
    return [statistics.median(column) for column in zip(*rows, strict=True)]


def environment(page: sync.Page, browser: str) -> str:
    """Return what computes: the browser, and how its WebAssembly is used."""
    threads = page.evaluate("ort.env.wasm.numThreads")
    return (
        f"Chromium {browser}, onnxruntime-web {VERSION}: WebAssembly with SIMD, {threads} thread"
        f"{'' if threads == 1 else 's'}, in a worker"
    )


def table(times: Mapping[str, Times]) -> str:
    """Return the times of several networks as a table of Markdown."""
    rows = [["network, resolution", "prediction, ms", "view", "network", "label map or classes"]]
    for name, medians_by_side in times.items():
        for side, values in medians_by_side.items():
            rows.append([f"{name}, {side}", *(f"{value:.1f}" for value in values)])
    return markdown_table(rows)


def main() -> None:
    """Measure folders, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.web_latency", description=__doc__)
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR")
    parser.add_argument("--image", type=Path, help="default: the sample of the page")
    parser.add_argument("--rounds", type=int, default=20, help="default: %(default)s")
    args = parser.parse_args()
    complaints: list[str] = []
    times: dict[str, Times] = {}
    used = ""
    with chromium() as browser:
        for folder in args.folders:
            with served(folder) as address, opened_page(browser, complaints, DESKTOP) as page:
                page.goto(address)
                sync.expect(page.locator("#about")).to_contain_text("trained at")
                # Two folders may be of one network, such as with 32 and with 8 bits.
                name = f"{folder} ({page.evaluate('model.task')})"
                times[name] = measure(page, args.rounds, args.image)
                used = environment(page, browser.version)
    machine = describe(torch.device("cpu"))
    print(used, f"{machine['cpu']}, {machine['cores']} cores", table(times), sep="\n")


if __name__ == "__main__":
    main()
