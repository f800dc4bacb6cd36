"""Train or evaluate a resolution switchable segmenter; see README.md for the commands."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from datasets.loader import message_of
from datasets.segmentation import TestSamples, training_batches
from rsseg.config import plain
from rsseg.device import choose_device, make_deterministic
from rsseg.engine import TrainingError
from rsseg.interrupt import Interrupted
from rsseg.load import load_checkpoint
from rsseg.resolutions import check_resolutions
from rsseg.run import RunFolder, results_table
from rsseg.segmentation import task
from rsseg.segmentation.config import SegmentationConfig
from rsseg.start import Start
from rsseg.training import Training


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("config", nargs="?", type=Path, help="YAML file of a new run")
    what.add_argument("--resume", type=Path, metavar="RUN", help="continue the run in this folder")
    what.add_argument("--evaluate", type=Path, metavar="CHECKPOINT", help="only evaluate")
    add = parser.add_argument
    add("--run", type=Path, help="folder of a new run (default: runs/CONFIG)")
    add("--continue", action="store_true", dest="go_on", help="resume the run if it has begun")
    add("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="overrides")
    add("--resolutions", nargs="+", type=int, help="with --evaluate")
    add("--unseen", help="with --evaluate: rule for untrained resolutions")
    add("--out", type=Path, help="with --evaluate: folder for the results")
    args = parser.parse_args(argv)
    if (args.run or args.go_on) and not args.config:
        parser.error("--run and --continue go with the configuration of a run")
    if not args.evaluate and (args.resolutions or args.unseen or args.out):
        parser.error("--resolutions, --unseen and --out go with --evaluate")
    return args


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Begin a run, or continue one; return its results."""
    if args.resume:
        start = Start.again(args.resume, args.overrides)
    else:
        start = Start.anew(args.config, args.run, args.overrides, go_on=args.go_on)
    config = start.load(SegmentationConfig)
    if config.deterministic:
        make_deterministic()
    batches, tests = training_batches(config), TestSamples(config)
    net = task.build_net(config, choose_device(config.device), pretrained=not start.resumed)
    job = task.build_job(config, net, batches, tests)
    if start.resumed:
        return Training.resume(job, start.reopen(plain(config))).fit()
    return Training(job, RunFolder.create(start.folder, plain(config))).fit()


def test(args: argparse.Namespace) -> dict[str, Any]:
    """Evaluate a checkpoint with the settings it was trained with; return the results."""
    net, _, metadata = load_checkpoint(args.evaluate)
    config = task.evaluation_config(metadata, args.overrides)
    net.unseen = args.unseen or net.unseen
    resolutions = sorted(args.resolutions or net.resolutions, reverse=True)
    check_resolutions(resolutions)
    folder = RunFolder.create(args.out, plain(config)) if args.out else None
    net.to(choose_device(config.device))
    results, evaluation = task.evaluate_checkpoint(
        config, net, metadata, TestSamples(config), resolutions
    )
    if folder:
        folder.write_results(results)
        task.report_classes(evaluation, folder.path)
    return results


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    args = parse(argv)
    try:
        results = test(args) if args.evaluate else train(args)
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("interrupted; what has been written is whole", file=sys.stderr)
        return 130
    except (ValueError, OSError, TrainingError, torch.OutOfMemoryError) as error:
        print(f"error: {message_of(error)}", file=sys.stderr)
        return 2
    print(results_table(results, task.SHOWN))
    return 0


if __name__ == "__main__":
    sys.exit(main())
