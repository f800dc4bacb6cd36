"""The verb `rsseg profile`: what a network holds and costs, counted or measured."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from rsseg.cli.options import add_allow_builder, add_json, add_resolutions

RUNS: Final = 30
_MEASURING: Final = ("executors", "onnx", "runs", "threads", "device", "budget", "no_memory")


def add_profile(verb: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    verb.description = (
        "Count what a network holds and costs, without training it; or measure a trained one."
    )
    verb.set_defaults(run=_profile)
    add = verb.add_argument
    kinds = "classifier such as resnet18, ARCHITECTURE:ENCODER such as refinenet:resnet101, or file"
    add("network", metavar="NETWORK", help=kinds)
    add_resolutions(verb, "a checkpoint has its own")
    add("--classes", type=int, metavar="K", help="default: 1000, of a segmenter 40")
    add_json(verb)
    add_allow_builder(verb)
    add = verb.add_argument_group("measuring").add_argument
    add("--measure", action="store_true", help="measure a .pt, .safetensors or .onnx file")
    executors = "of torch, onnxruntime, openvino; default: all"
    add("--executors", nargs="+", metavar="NAME", help=executors)
    add("--onnx", type=Path, nargs="+", metavar="FILE", help="default: those beside the checkpoint")
    add("--runs", type=int, metavar="N", help=f"predictions at each resolution; default: {RUNS}")
    add("--threads", type=int, metavar="N", help="threads for one image; default: PyTorch's")
    add("--device", help="auto, cpu or cuda, for PyTorch; default: cpu")
    budget = "print the resolution that keeps this budget"
    add("--budget-ms", "--budget", type=float, metavar="MS", dest="budget", help=budget)
    add("--no-memory", action="store_true", default=None, help="measure times alone")


def _profile(args: argparse.Namespace) -> None:
    if args.measure:
        from rsseg.cli.measure import measure

        measure(args, runs=RUNS)
        return
    options = [option for option in _MEASURING if getattr(args, option) is not None]
    if options:
        flag = options[0].replace("_", "-")
        raise ValueError(f"--{flag} is for what is measured; give --measure as well")
    import json

    from rsseg.analysis import profile

    counts = profile.profile(
        args.network,
        args.resolutions,
        classes=args.classes,
        allow_builder=args.allow_builder,
    )
    print(json.dumps(counts.as_dict(), indent=1) if args.json else profile.layout(counts))
