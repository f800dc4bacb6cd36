"""The command `rsseg`: what is done with networks and results, without any data set.

Each verb is a file of this folder that names its arguments and hands them to the library. No file
imports the library before its verb runs, so that help comes at once. Training is in `train_seg.py`
and `train_cls.py`, which know the data sets.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import rsseg
from rsseg import __version__
from rsseg.cli.batchnorms import add_batchnorms
from rsseg.cli.cascade import add_cascade
from rsseg.cli.compare import add_compare
from rsseg.cli.curves import add_curves
from rsseg.cli.disagreement import add_disagreement
from rsseg.cli.doctor import add_doctor
from rsseg.cli.export import add_export
from rsseg.cli.features import add_features
from rsseg.cli.gains import add_gains
from rsseg.cli.import_published import add_import
from rsseg.cli.pack import add_pack
from rsseg.cli.paper import add_paper
from rsseg.cli.plot import add_plot
from rsseg.cli.predict import add_predict
from rsseg.cli.profile import add_profile
from rsseg.cli.serve import add_serve
from rsseg.common.extras import missing_extra
from rsseg.common.messages import check_name

# Verb: the function that adds its arguments and sets `run`, and its line in the help.
VERBS: Final[dict[str, tuple[Callable[[argparse.ArgumentParser], None], str]]] = {
    "predict": (add_predict, "label maps or classes of any images"),
    "profile": (add_profile, "parameters, multiply-adds, latency and memory of a network"),
    "compare": (add_compare, "one table of the results of several runs"),
    "gains": (add_gains, "the change against networks of one resolution (Fig. 5, 9)"),
    "curves": (add_curves, "losses and metrics of runs as a picture"),
    "plot": (add_plot, "accuracy against resolution or multiply-adds"),
    "disagreement": (add_disagreement, "which images one classifier knows, another not"),
    "features": (add_features, "pooled features under training and test preprocessing (Fig. 3)"),
    "batchnorms": (add_batchnorms, "the BatchNorm sets of a network, layer by layer (Fig. 6)"),
    "paper": (add_paper, "one page of every table and figure that runs allow"),
    "cascade": (add_cascade, "high resolutions only for unsure answers"),
    "import": (add_import, "a checkpoint from the paper's published weights"),
    "pack": (add_pack, "a quantised network with few bits for each weight"),
    "export": (add_export, "one ONNX file of a checkpoint for other runtimes"),
    "serve": (add_serve, "a network behind HTTP, and a page to try it"),
    "doctor": (add_doctor, "what would stop or slow down a run here, and the remedy"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name; default are those of the process.

    Returns:
        Exit status: 0, 1 if `doctor` finds a fault, 2 if an argument or a file is wrong, 130
        after an interruption.
    """
    parser = _parser()
    _check_verb(parser, sys.argv[1:] if argv is None else argv)
    args = parser.parse_args(argv)
    try:
        with _short_warnings(args.verb):
            status: int | None = args.run(args)
    except (ValueError, OSError) as error:
        print(f"rsseg {args.verb}: {error}", file=sys.stderr)
        return 2
    except ImportError as error:
        message = missing_extra(error)
        if message is None:
            raise
        print(f"rsseg {args.verb}: {message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"rsseg {args.verb}: interrupted; files already written are whole", file=sys.stderr)
        return 130
    return status or 0


@contextmanager
def _short_warnings(verb: str) -> Iterator[None]:
    """Write the library's own warnings as errors are written: a line, without a place in code."""
    usual = warnings.formatwarning
    library = str(Path(rsseg.__file__).parent)

    def warning_line(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        line: str | None = None,
    ) -> str:
        if category is UserWarning and filename.startswith(library):
            return f"rsseg {verb}: warning: {message}\n"
        return usual(message, category, filename, lineno, line)

    warnings.formatwarning = warning_line
    try:
        yield
    finally:
        warnings.formatwarning = usual


def _check_verb(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    """End with the closest verb where the first argument is none of them."""
    if argv and not argv[0].startswith("-"):
        try:
            check_name("verb", argv[0], VERBS)
        except ValueError as error:
            parser.error(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rsseg", description="Resolution switchable networks.")
    parser.add_argument("--version", action="version", version=f"rsseg {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, (add_arguments, summary) in VERBS.items():
        add_arguments(verbs.add_parser(name, help=summary))
    return parser


if __name__ == "__main__":
    sys.exit(main())
