"""Train or evaluate a resolution switchable segmenter; see README.md for the commands."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from datasets.segmentation import test_batches, training_batches
from rsseg.config import load_config, overridden, plain
from rsseg.device import choose_device, make_deterministic
from rsseg.engine import TrainingError
from rsseg.interrupt import Interrupted
from rsseg.load import load_checkpoint
from rsseg.run import RunFolder, check_new, default_folder, results_table, resumable, write_whole
from rsseg.segmentation import task
from rsseg.segmentation.config import SegmentationConfig
from rsseg.switchable import check_resolutions
from rsseg.training import Job, Training


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("config", nargs="?", type=Path, help="YAML file of a new run")
    what.add_argument("--resume", type=Path, metavar="RUN", help="continue the run in this folder")
    what.add_argument("--evaluate", type=Path, metavar="CHECKPOINT", help="only evaluate")
    parser.add_argument("--run", type=Path, help="folder of a new run (default: runs/CONFIG)")
    parser.add_argument(
        "--continue", action="store_true", dest="go_on", help="resume the run if it has begun"
    )
    parser.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="overrides"
    )
    parser.add_argument("--resolutions", nargs="+", type=int, help="with --evaluate")
    parser.add_argument("--unseen", help="with --evaluate: rule for untrained resolutions")
    parser.add_argument("--out", type=Path, help="with --evaluate: write the results here")
    args = parser.parse_args(argv)
    if args.run and not args.config:
        parser.error("--run names the folder of a new run: give its configuration as well")
    if not args.evaluate and (args.resolutions or args.unseen or args.out):
        parser.error("--resolutions, --unseen and --out go with --evaluate")
    return args


def train(args: argparse.Namespace) -> dict[str, Any]:
    """Begin a run, or continue one; return its results."""
    folder = args.resume or args.run or default_folder(args.config)
    go_on = args.resume or (args.go_on and (folder / "config.yaml").exists())
    path = resumable(folder, args.overrides) if go_on else args.config
    config = load_config(SegmentationConfig, path, args.overrides)
    if config.deterministic:
        make_deterministic()
    batches = training_batches(config)
    tests, classes = test_batches(config, config.resolutions)
    net = task.build_net(config, choose_device(config.device))
    job = Job(
        config=config,
        net=net,
        batches=batches,
        loss=task.build_loss(config, net),
        evaluate=partial(task.evaluate_net, config, net, tests, classes, config.resolutions),
        metadata=task.describe(config, net, classes),
        report=task.report_classes,
        metric=task.METRIC,
    )
    if go_on:
        return Training.resume(job, RunFolder(folder)).fit()
    return Training(job, RunFolder.create(folder, plain(config))).fit()


def test(args: argparse.Namespace) -> dict[str, Any]:
    """Evaluate a checkpoint with the settings it was trained with; return the results."""
    if args.out:
        check_new(args.out)
    net, _, metadata = load_checkpoint(args.evaluate)
    config = overridden(SegmentationConfig, metadata["config"], args.overrides)
    net.unseen = args.unseen or net.unseen
    resolutions = args.resolutions or net.resolutions
    check_resolutions(sorted(resolutions, reverse=True))
    tests, classes = test_batches(config, resolutions)
    net.to(choose_device(config.device))
    evaluation = task.evaluate_net(config, net, tests, classes, resolutions)
    results = task.results_of(net, metadata, evaluation, resolutions)
    if args.out:
        write_whole(args.out, json.dumps(results, indent=1) + "\n")
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
    except (ValueError, OSError, TrainingError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(results_table(results, task.SHOWN))
    return 0


if __name__ == "__main__":
    sys.exit(main())
