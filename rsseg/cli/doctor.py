"""The verb `rsseg doctor`: what is wrong with a machine or a configuration, and the remedy."""

from __future__ import annotations

import argparse
from pathlib import Path

from rsseg.cli.options import add_json


def add_doctor(verb: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    verb.description = (
        "Check for what would stop or slow down a run here: versions, threads, shared memory, "
        "disk, and what the given configurations need. Status 1: there is a fault. Hardware, "
        "driver and build of torch: python -m torch.utils.collect_env"
    )
    verb.set_defaults(run=_doctor)
    add = verb.add_argument
    add("configs", type=Path, nargs="*", metavar="CONFIG", help="of train_cls.py or train_seg.py")
    add("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", dest="overrides")
    add_json(verb)


def _doctor(args: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict

    from rsseg.doctor.examine import examine, layout

    if args.overrides and not args.configs:
        raise ValueError("--set goes with a configuration; give one, such as configs/NAME.yaml")
    findings = examine(args.configs, args.overrides)
    print(json.dumps([asdict(f) for f in findings], indent=1) if args.json else layout(findings))
    return int(any(finding.state == "fault" for finding in findings))
