"""Files of fixed shapes that hold the weights once, against a file of each resolution.

For each format of `rsseg export --format` the peer is the file of the one resolution, its
BatchNorms folded; "speed" is its time over that of the file of all, so 0.97 is a latency of 1.03
times, and "file" the size over that of the peer's file. Memory is that of opening a file and
computing its first image, over what is held with the runtime loaded. "difference" is the largest
one of a logit from PyTorch. Networks have random weights.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
import torch

if not __package__:  # Run as a script: nothing is installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import Case, UnavailableError, Work
from benchmarks.onnx_files import describe, image, make_net, run_on_files, variants_of
from benchmarks.runner import make_parser
from rsseg.common.extras import extra_message
from rsseg.common.files import size_of
from rsseg.runtime.fixed_shapes.export import FORMATS, Format, written_folder
from rsseg.runtime.protocol import Executor
from rsseg.switchable.net import SwitchableNet

ALL, ONE = "all resolutions", "one resolution"
_RUNTIMES: Final = {"executorch": "executorch.runtime", "openvino": "openvino"}


@dataclass(frozen=True)
class Files:
    """Files of one network in one format, made when they are asked for and not yet there.

    Args:
        folder: Where they are.
        network: Name of the network.
        resolutions: That it has sets for.
        name: Of the format.
    """

    folder: Path
    network: str
    resolutions: tuple[int, ...]
    name: str

    @property
    def format(self) -> Format:
        """How the files are written and opened."""
        return FORMATS[self.name]

    def path(self, variant: str, resolution: int) -> Path:
        """Return the file of a variant, to be used at a resolution.

        Raises:
            UnavailableError: If a package of the format is not installed.
        """
        for package in self.format.packages:
            if find_spec(package) is None:
                raise UnavailableError(extra_message(package))
        only = resolution if variant == ONE else None
        kind = "all" if only is None else only
        path = self.folder / f"{self.network}-{self.name}-{kind}{self.format.suffix}"
        if not path.exists():
            self._write(path, only)
        return path

    def _write(self, path: Path, only: int | None) -> None:
        description = describe(
            self.network, self.resolutions, only, layout="fixed" if only is None else "one"
        )
        if self.format.suffix:
            self.format.write(self.net, description, path)
        else:
            with written_folder(path) as temporary:
                self.format.write(self.net, description, temporary)

    @functools.cached_property
    def net(self) -> SwitchableNet:
        """The network itself."""
        torch.manual_seed(0)  # The same in each process, whoever writes a file.
        return make_net(self.network, self.resolutions)

    def open(self, variant: str, resolution: int, threads: int) -> Executor:
        """Open the file of a variant."""
        executor, _ = self.format.open(
            self.path(variant, resolution), threads=threads, device="cpu"
        )
        return executor


def latency(files: Files, variant: str, resolution: int, options: argparse.Namespace) -> Work:
    """Prepare images through an open file, one after the other."""
    executor = files.open(variant, resolution, options.threads)
    view = image(resolution)
    logits = executor.logits(view, resolution)
    with torch.inference_mode():
        expected = files.net.predict(torch.from_numpy(view)).numpy()

    def call() -> None:
        for _ in range(options.passes):
            executor.logits(view, resolution)

    size = size_of(files.path(variant, resolution))
    notes = {
        "file, MiB": size / 2**20,
        "file": size / size_of(files.path(ONE, resolution)),
        "difference": float(np.abs(logits - expected).max()),
    }
    return Work(call, units=options.passes, notes=notes)


def opening(files: Files, variant: str, resolution: int, options: argparse.Namespace) -> Work:
    """Prepare the opening of a file and a first image."""
    files.path(variant, resolution)
    import_module(_RUNTIMES[files.name])  # Libraries do not count.

    def call() -> None:
        files.open(variant, resolution, options.threads).logits(image(resolution), resolution)

    return Work(call)


def cases(options: argparse.Namespace) -> Iterator[Case]:
    """Yield the latency at each resolution, and the opening of files at the smallest."""
    options.passes = options.passes or (5 if options.short else 10)
    for name in options.formats:
        files = Files(options.files, options.network, tuple(options.resolutions), name)
        sizes = {"network": options.network, "batch": 1, "sets": list(files.resolutions)}
        for side in files.resolutions:
            case = f"{name}, {side} pixels"
            yield Case(
                case, variants_of(latency, files, side, options, (ONE, ALL)), sizes, memory=False
            )
        smallest = files.resolutions[-1]
        variants = variants_of(opening, files, smallest, options, (ONE, ALL))
        yield Case(f"{name}, open at {smallest}", variants, sizes)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = make_parser("formats", str(__doc__), threads=2, device="cpu")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    return run_on_files(__file__, parser, cases, arguments)


if __name__ == "__main__":
    sys.exit(main())
