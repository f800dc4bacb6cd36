"""What starting costs: importing rsseg, and the help of its command, against `import torch`.

Each call is a fresh interpreter, from its start to its end. The method is what an own training loop
imports: the network, the losses, the switch. The files are in the system's cache after the first
round.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

if not __package__:  # Run as a script: nothing is installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.harness import Case, Work
from benchmarks.runner import make_parser, run

ROOT = Path(__file__).resolve().parents[1]
METHOD = "from rsseg import SwitchableNet, convert_to_switchable, mred_loss, pixelwise_mred_loss"
PROGRAMS = {
    "import torch": ("-c", "import torch"),
    "the method": ("-c", METHOD),
    "import rsseg": ("-c", "import rsseg"),
    "rsseg --help": ("-m", "rsseg", "--help"),
}


def start(arguments: Sequence[str]) -> None:
    """Run an interpreter to its end."""
    command = [sys.executable, *arguments]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def _work(arguments: Sequence[str]) -> Work:
    return Work(partial(start, arguments))


def cases(_options: argparse.Namespace) -> Iterator[Case]:
    """Yield the only case."""
    variants = {name: partial(_work, arguments) for name, arguments in PROGRAMS.items()}
    yield Case("start", variants, {}, memory=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    parser = make_parser("imports", str(__doc__), threads=1, device="cpu")
    return run(__file__, parser, cases, arguments)


if __name__ == "__main__":
    sys.exit(main())
