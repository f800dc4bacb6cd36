"""The command line of the training scripts: train, continue, or evaluate.

The scripts bring the task and the data set; this file is the same for all of them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import torch

from rsseg.analysis.results import adaptation_table, results_table
from rsseg.common.config import is_given, load_config, plain
from rsseg.common.device import choose_device, make_deterministic
from rsseg.common.distributed import (
    LostProcessError,
    barrier,
    check_agreed,
    is_launched,
    is_main_process,
    joined,
    warn_first,
)
from rsseg.common.files import check_output
from rsseg.common.messages import message_of
from rsseg.load import load_checkpoint
from rsseg.switchable.net import SwitchableNet
from rsseg.switchable.resolutions import Resolutions
from rsseg.switchable.unseen import RULES
from rsseg.training import task as tasks
from rsseg.training.adapt.recalibration import recalibrate_start
from rsseg.training.beginning import KEYS, with_normalisation
from rsseg.training.constant_output import constant_output_warnings
from rsseg.training.cost import estimate, profile_steps, wait_for_kernels
from rsseg.training.evaluate_checkpoint import evaluate_checkpoint, evaluation_config, recalibrated
from rsseg.training.interrupt import Interrupted
from rsseg.training.job import Job
from rsseg.training.loop import Training
from rsseg.training.metadata import RunMetadata
from rsseg.training.parallel import check_compression
from rsseg.training.resume import Start, settings_of_run
from rsseg.training.run_folder import RunFolder
from rsseg.training.step import TrainingError
from rsseg.training.task import C, EvalData, Task, TrainData

RECALIBRATE = "recalibrate"
_FAULTS = (
    ValueError,
    OSError,
    ImportError,
    TrainingError,
    LostProcessError,
    torch.OutOfMemoryError,
)


@dataclass(frozen=True)
class Script(Generic[C]):
    """A training script.

    Args:
        task: What is trained.
        batches: Opens the training batches of a run.
        eval_data: Opens the test images of a run.
        description: What the script does, for --help.
    """

    task: Task[C]
    batches: Callable[[C], TrainData]
    eval_data: Callable[[C], EvalData]
    description: str

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Run the command line; return the exit code."""
        args = parse(self.description, argv)
        try:
            if args.estimate or args.profile:
                print(self.measure(args))
            else:
                results = self.evaluate(args) if args.evaluate else self.train(args)
                if is_main_process():
                    print(results_table(results, self.task.head.metrics))
                    if results.get("start"):
                        print("\nthe original, tested at each resolution, and the adapted network:")
                        print(adaptation_table(results, self.task.head.metrics))
                for warning in constant_output_warnings(results.get("constant_output", {})):
                    warn_first(warning)
        except Interrupted as stop:
            if is_launched():
                warn_first(str(stop))
            else:
                print(stop, file=sys.stderr)
            return 130
        except KeyboardInterrupt:
            print("interrupted; what has been written is whole", file=sys.stderr)
            return 130
        except _FAULTS as error:
            print(f"error: {message_of(error)}", file=sys.stderr)
            return 2
        return 0

    def train(self, args: argparse.Namespace) -> dict[str, Any]:
        """Begin a run, or continue one; return its results."""
        if args.resume:
            start = Start.again(args.resume, args.overrides)
        else:
            start = Start.anew(args.config, args.run, args.overrides, go_on=args.go_on)
        config = start.load(self.task.config)
        if not start.resumed:
            config = self._normalised(config, given=start.given(*KEYS), offline=False)
        # Whoever has come so far has seen the folder as it was before anyone writes into it.
        with joined(choose_device(config.device), config.timeout_minutes):
            check_compression(config)
            check_agreed(start.resumed, "whether the run is continued")
            check_agreed(settings_of_run(plain(config)), "the settings")
            sending = (config.memory, config.gradient_compression)
            check_agreed(sending, "memory and gradient_compression")
            job = self._job(config, pretrained=not start.resumed)
            settings = plain(job.config)  # With the precision that "auto" takes here.
            if is_main_process() and start.resumed:
                start.reopen(settings)
            elif is_main_process():
                RunFolder.create(start.folder, settings)
            barrier()
            folder = RunFolder(start.folder)
            training = Training.resume(job, folder) if start.resumed else Training(job, folder)
            return training.fit()

    def measure(self, args: argparse.Namespace) -> str:
        """Measure a few steps; return what the run will cost, or where its time goes."""
        config = load_config(self.task.config, args.config, args.overrides)
        if is_launched():
            raise ValueError("--estimate and --profile measure one process; leave out torchrun")
        if args.profile:
            check_output(args.profile)
            wait_for_kernels()
        given = any(is_given(args.config, args.overrides, key) for key in KEYS)
        config = self._normalised(config, given=given, offline=True)
        job = self._job(config, pretrained=False)
        return profile_steps(job, args.profile) if args.profile else estimate(job)

    def _normalised(self, config: C, *, given: bool, offline: bool) -> C:
        """Return the settings with mean and std of the weights that the run starts from."""
        record = self.task.record(config, offline=offline)
        return with_normalisation(config, record, given=given)

    def _job(self, config: C, *, pretrained: bool) -> Job:
        if config.deterministic:
            make_deterministic()
        batches, data = self.batches(config), self.eval_data(config)
        if is_main_process():
            print(f"train: {batches.summary}\ntest: {data.summary}", flush=True)
        device = choose_device(config.device)
        net = tasks.build_net(
            self.task,
            config,
            device,
            pretrained=pretrained,
            classes=data.classes,
            labels=data.fingerprint.get("labels"),
        )
        if pretrained:
            recalibrate_start(config, net, data)
        return tasks.build_job(self.task, config, net, batches, data)

    def evaluate(self, args: argparse.Namespace) -> dict[str, Any]:
        """Evaluate a checkpoint with the settings it was trained with; return the results."""
        net, _, metadata = load_checkpoint(args.evaluate)
        if metadata.task != self.task.head.name:
            raise ValueError(
                f"{args.evaluate} is a checkpoint of {metadata.task}, this script is for "
                f"{self.task.head.name}"
            )
        config = evaluation_config(self.task.config, metadata, args.overrides)
        device = choose_device(config.device)
        with joined(device, config.timeout_minutes):
            return self._evaluate(args, net.to(device), metadata, config)

    def _evaluate(
        self, args: argparse.Namespace, net: SwitchableNet, metadata: RunMetadata, config: C
    ) -> dict[str, Any]:
        resolutions = Resolutions(sorted(args.resolutions or net.resolutions, reverse=True))
        folder = (
            RunFolder.create(args.out, plain(config)) if args.out and is_main_process() else None
        )
        data = self.eval_data(config)
        if is_main_process():
            print(f"test: {data.summary}", flush=True)
        if args.unseen == RECALIBRATE:
            net = recalibrated(net, config, data, resolutions, args.images)
        else:
            net.unseen = args.unseen or net.unseen
        results, evaluation = evaluate_checkpoint(
            self.task, config, net, data, metadata=metadata, resolutions=resolutions
        )
        results["unseen"] = args.unseen or net.unseen
        if folder:
            folder.write_results(results)
            self.task.report(evaluation, data, folder.path)
        return results


def parse(description: str, argv: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=description)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("config", nargs="?", type=Path, help="YAML file of a new run")
    what.add_argument("--resume", type=Path, metavar="RUN", help="continue the run in this folder")
    what.add_argument("--evaluate", type=Path, metavar="CHECKPOINT", help="only evaluate")
    add = parser.add_argument
    add("--run", type=Path, help="folder of a new run (default: runs/CONFIG)")
    add("--continue", action="store_true", dest="go_on", help="resume the run if it has begun")
    add("--estimate", action="store_true", help="only print what the run will cost")
    add(
        "--profile",
        type=Path,
        metavar="JSON",
        help="only print where the time goes, and write a trace",
    )
    add("--init", metavar="WEIGHTS", help="start from these weights, as --set init=WEIGHTS")
    add("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="overrides")
    add("--resolutions", nargs="+", type=int, help="with --evaluate")
    rules = ", ".join((*RULES, RECALIBRATE))
    add("--unseen", help=f"with --evaluate: rule for untrained resolutions: {rules}")
    add("--images", type=int, default=1000, help="with --unseen recalibrate: training images")
    add("--out", type=Path, help="with --evaluate: folder for the results")
    args = parser.parse_args(argv)
    if (args.run or args.go_on or args.estimate or args.profile) and not args.config:
        parser.error("--run, --continue, --estimate and --profile go with a configuration")
    if not args.evaluate and (args.resolutions or args.unseen or args.out):
        parser.error("--resolutions, --unseen and --out go with --evaluate")
    if args.init is not None:
        if not args.config:
            parser.error("--init goes with a configuration")
        args.overrides.append(f"init={json.dumps(args.init)}")  # Quoted: a path may hold a "#".
    if args.images < 1:
        parser.error(f"--images must be at least 1, got {args.images}")
    return args
