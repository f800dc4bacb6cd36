"""The verb `rsseg pack`: a quantised network in a file with K bits for each weight."""

from __future__ import annotations

import argparse
from pathlib import Path

from rsseg.cli.options import add_allow_builder, add_out


def add_pack(verb: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    verb.description = (
        "Write a quantised network with K bits for each weight. Other commands take the file as "
        "they take a checkpoint; it cannot be trained on."
    )
    verb.set_defaults(run=_pack)
    verb.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="of a quantised network")
    add_allow_builder(verb)
    add_out(verb, "SAFETENSORS")


def _pack(args: argparse.Namespace) -> None:
    from rsseg.load import load_checkpoint
    from rsseg.quantization.packing import layout, save_packed

    net, _, metadata = load_checkpoint(args.checkpoint, allow_builder=args.allow_builder)
    size = save_packed(net, metadata.plain(), args.out, overwrite=args.overwrite)
    print(layout(size, args.out.stat().st_size))
    print(f"packed: {args.out}")
