"""The verb `rsseg pack`: a quantised network in a file with K bits for each weight."""

from __future__ import annotations

import argparse
from pathlib import Path

from rsseg.load import load_checkpoint
from rsseg.quantization.packing import PackedSize, save_packed


def add_pack(verb: argparse.ArgumentParser) -> None:
    """Describe the verb's arguments."""
    verb.description = (
        "Write a quantised network with K bits for each weight. Other commands take the file as "
        "they take a checkpoint; it cannot be trained on."
    )
    verb.set_defaults(run=pack)
    verb.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    verb.add_argument("--out", type=Path, required=True, metavar="SAFETENSORS")
    verb.add_argument("--overwrite", action="store_true", help="write over a file that exists")


def pack(args: argparse.Namespace) -> None:
    """Write the file, and print what its parts take."""
    net, _, metadata = load_checkpoint(args.checkpoint)
    size = save_packed(net, metadata, args.out, overwrite=args.overwrite)
    print(layout(size, args.out.stat().st_size))
    print(f"packed: {args.out}")


def layout(size: PackedSize, file: int) -> str:
    """Lay out what a packed network takes."""
    rows = {
        f"codes of {size.weights:,} weights": size.codes,
        "what gives them values": size.bases,
        "not quantised": size.rest,
        "file": file,
    }
    lines = [f"{what:<32}{number / 1e6:>10.3f} MB" for what, number in rows.items()]
    return "\n".join(
        [*lines, f"a quantised weight takes {size.bits_per_weight:.3f} bits as stored"]
    )
