"""The processes that load images: what they do with the signals that stop a run.

A signal to every process of a run must not end the workers before the run is saved. When their
own process ends them, as it does once its script is over, they end at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Final

import torch

from rsseg.training.interrupt import SIGNALS

_GRACE: Final = 20.0  # Seconds; torchrun and clusters wait 30 between SIGTERM and SIGKILL.


def start_worker(_worker: int, *, grace: float = _GRACE) -> None:
    """Prepare a worker process; for `worker_init_fn` of a DataLoader.

    Args:
        _worker: Its number.
        grace: Seconds that it lives on after a SIGTERM from another process than its own parent.
    """
    torch.set_num_threads(1)
    # They may reach every process of the run; only the training process decides what follows.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        signal.signal(signal.SIGTERM, lambda *_: None)  # for threads that were there before
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_in_time, args=(os.getppid(), grace), daemon=True).start()
    else:  # The sender is not known there: every SIGTERM has its grace.
        signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
        signal.signal(signal.SIGTERM, lambda *_: signal.setitimer(signal.ITIMER_REAL, grace))


if sys.platform == "linux":

    def _end_in_time(parent: int, grace: float) -> None:
        """Wait for SIGTERM; end the process at once if its parent sent it, else after a grace.

        With status 0: PyTorch raises in the parent, wherever that is, for a worker that fails or
        dies by a signal. Who still waits for images of this worker is told by the DataLoader.
        """
        sender: int | None = signal.sigwaitinfo({signal.SIGTERM}).si_pid
        end = time.monotonic() + grace
        while sender != parent and (left := end - time.monotonic()) > 0:
            information = signal.sigtimedwait({signal.SIGTERM}, left)
            sender = information.si_pid if information else None
        os._exit(0)
