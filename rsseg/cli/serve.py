"""The verb `rsseg serve`: a trained network behind HTTP, and a page for the browser."""

from __future__ import annotations

import argparse
import math
from functools import partial

from rsseg.cli.options import add_allow_builder, add_executor, add_full_decode, add_network


def add_serve(verb: argparse.ArgumentParser) -> None:
    """Add the arguments of the verb."""
    verb.description = (
        "Answer images over HTTP: POST /predict with an image as body gives classes (JSON) or a "
        "label map (PNG). Under overload the resolution falls before anything is refused. The "
        "address itself is a page to try it; /model, /health and /metrics describe the service."
    )
    verb.set_defaults(run=_serve)
    add = verb.add_argument
    add_network(verb)
    add("--host", default="127.0.0.1", help="0.0.0.0 for all networks; default: %(default)s")
    add(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name that it is reached by, such as that of a proxy; may be repeated. Default: on "
        "loopback localhost and its addresses, else any",
    )
    add("--port", type=int, default=8000, help="0 for any that is free; default: %(default)s")
    add_executor(verb, device="cpu")
    add_allow_builder(verb)
    add_full_decode(verb)
    add("--workers", type=int, metavar="N", help="images at once; default: cores / threads")
    add("--queue", type=int, default=64, metavar="N", help="that may wait; default: %(default)s")
    add(
        "--budget-ms",
        type=float,
        metavar="MS",
        help="for each answer, waiting included; default: four predictions at the largest "
        "resolution, at least 500",
    )
    add("--max-mb", type=float, default=20.0, metavar="MB", help="default: %(default)g")
    add("--max-megapixels", type=float, default=40.0, metavar="MP", help="default: %(default)g")


def _serve(args: argparse.Namespace) -> None:
    _check(args)
    try:
        _run(args)
    except KeyboardInterrupt:
        print("stopped")


def _run(args: argparse.Namespace) -> None:
    from rsseg.runtime.serve.body import Limits
    from rsseg.runtime.serve.server import Options, serve

    options = Options(
        host=args.host,
        port=args.port,
        executor=args.executor,
        threads=args.threads,
        device=args.device,
        workers=args.workers,
        queue=args.queue,
        budget_ms=args.budget_ms,
        allow_builder=args.allow_builder,
        full_decode=args.full_decode,
        allow_hosts=tuple(args.allow_host),
        limits=Limits(
            body_mb=args.max_mb,
            megapixels=args.max_megapixels,
            held_mb=max(Limits.held_mb, args.max_mb),
        ),
    )
    serve(args.network, options, tell=partial(print, flush=True))


def _check(args: argparse.Namespace) -> None:
    from rsseg.runtime.budget.budget import check_budget
    from rsseg.runtime.opening import MOST_THREADS

    for name in ("threads", "workers", "queue"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name} must be at least 1, got {value}")
    if args.workers is not None and args.workers > MOST_THREADS:
        raise ValueError(f"--workers must be at most {MOST_THREADS}, got {args.workers}")
    for flag, value in (("--max-mb", args.max_mb), ("--max-megapixels", args.max_megapixels)):
        if not 0 < value < math.inf:
            raise ValueError(f"{flag} must be a positive number, got {value}")
    if args.budget_ms is not None:
        check_budget(args.budget_ms)
