"""Options that several verbs share, spelled and described in one way."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_out(verb: argparse.ArgumentParser, metavar: str, meaning: str | None = None) -> None:
    """Add --out, the file to write, and --overwrite.

    Args:
        verb: Parser of the verb.
        metavar: Kind of the file, such as PNG.
        meaning: Help of an --out that may be left out; None makes it required.
    """
    verb.add_argument(
        "--out",
        type=Path,
        required=meaning is None,
        metavar=metavar,
        help=meaning or "file to write",
    )
    add_overwrite(verb)


def add_overwrite(verb: argparse.ArgumentParser) -> None:
    """Add --overwrite."""
    verb.add_argument("--overwrite", action="store_true", help="write over what exists")


def add_resolutions(verb: argparse.ArgumentParser, meaning: str) -> None:
    """Add --resolutions."""
    verb.add_argument("--resolutions", type=int, nargs="+", metavar="R", help=meaning)


def add_json(verb: argparse.ArgumentParser) -> None:
    """Add --json."""
    verb.add_argument("--json", action="store_true", help="print JSON")


def add_network(verb: argparse.ArgumentParser) -> None:
    """Add NETWORK, the file of a trained network of any kind."""
    kinds = "a checkpoint (.pt), packed (.safetensors) or exported (.onnx, .pte) file"
    verb.add_argument("network", type=Path, metavar="NETWORK", help=kinds)


def add_allow_builder(verb: argparse.ArgumentParser) -> None:
    """Add --allow-builder."""
    meaning = "import and run the function that a checkpoint says builds its network"
    verb.add_argument("--allow-builder", action="store_true", help=meaning)


def add_full_decode(verb: argparse.ArgumentParser) -> None:
    """Add --full-decode."""
    meaning = "decode JPEGs whole, also where a half, a quarter or an eighth does for the view"
    verb.add_argument("--full-decode", action="store_true", help=meaning)


def add_executor(verb: argparse.ArgumentParser, *, device: str) -> None:
    """Add --executor, --threads and --device, which is `device` where none is given."""
    add = verb.add_argument
    add("--executor", metavar="NAME", help="torch, onnxruntime, openvino or executorch")
    add("--threads", type=int, metavar="N", help="threads for one image; default: PyTorch's")
    add("--device", default=device, help="auto, cpu or cuda, for PyTorch; default: %(default)s")


def add_labels(verb: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Add where ground truth lies and what its values mean; see `label_reading`."""
    add = verb.add_argument
    truth = "ground truth: folder of PNGs, pattern such as 'masks/*_mask.png', or one PNG"
    add("--labels", type=Path, metavar="PATH", help=truth)
    reading = "what their values mean, YAML such as '{offset: 0, void: [255]}', or the name of a "
    reading += "preset; default: as in training"
    add("--label-reading", metavar="READING", help=reading)
    add("--label-offset", type=int, metavar="N", help="value of the first class there")
    add("--void-value", type=int, metavar="N", help="value without class there")


def label_reading(args: argparse.Namespace) -> Any:
    """Return what the values of the label files mean, None if no option says it."""
    from rsseg.segmentation.labels import complete_reading
    from rsseg.segmentation.presets import parse_reading

    shifted = args.label_offset is not None or args.void_value is not None
    if args.label_reading is None:
        return complete_reading(args.label_offset, args.void_value) if shifted else None
    if shifted:
        raise ValueError("--label-reading says it all; leave out --label-offset and --void-value")
    return parse_reading(args.label_reading, "--label-reading")
