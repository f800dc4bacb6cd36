"""train_cls.py whose second process kills itself in the fourth step, once.

    dying_run.py MARK ARGUMENTS...

The file MARK tells that it has happened.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import train_cls
from rsseg.common import distributed
from rsseg.losses.mred import MREDLosses
from rsseg.training import state as stepper
from rsseg.training.step import train_step


def main(arguments: list[str]) -> int:
    """Run the script with all arguments but the first, which is the mark."""
    mark, steps = Path(arguments[0]), 0

    def step(*given: Any, **options: Any) -> MREDLosses:
        nonlocal steps
        steps += 1
        if distributed.rank() == 1 and steps == 4 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return train_step(*given, **options)

    stepper.train_step = step  # type: ignore[attr-defined]
    return train_cls.main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
