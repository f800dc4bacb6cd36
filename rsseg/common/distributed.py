"""Several processes that train one network: who they are, and what they tell each other.

torchrun starts the processes; each holds the whole network and trains it with its share of every
batch. Gradients are averaged during the backward pass, see `rsseg.training.parallel`; here stands
what else they tell each other. With one process nothing here does anything.

Source: the variables that torchrun sets, https://docs.pytorch.org/docs/stable/elastic/run.html.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from rsseg.common.messages import first_line

T = TypeVar("T")
_BUCKET = 1 << 23  # Values that are exchanged at once: 32 MiB of float32.


class LostProcessError(RuntimeError):
    """Another process of the run has died, or did not answer in time."""


def is_launched() -> bool:
    """Return whether torchrun, or something that sets the same variables, started this process."""
    return {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys()


def local_rank() -> int:
    """Return the number of this process on its machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0"))


@contextmanager
def joined(device: torch.device, minutes: float) -> Iterator[None]:
    """Connect the processes of a run inside a `with` block, if there are several.

    Args:
        device: Where this process trains.
        minutes: How long a process waits for the others before it gives up.

    Raises:
        ValueError: If the processes do not find each other.
    """
    if not is_launched() or dist.is_initialized():
        yield
        return
    # Small things, such as a request to stop, go between the CPUs and wait for no device.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        dist.init_process_group(
            backend, timeout=timedelta(minutes=minutes), **_meeting_place(minutes)
        )
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']} cannot join the others at "
            f"{os.environ['MASTER_ADDR']}:{os.environ.get('MASTER_PORT', '?')} "
            f"({first_line(error)}); check that all were started, and the network"
        ) from error
    try:
        yield
    except LostProcessError:
        raise  # Without a word to the others: to part in order would wait for the lost one.
    except BaseException:
        dist.destroy_process_group()
        raise
    dist.destroy_process_group()


def _meeting_place(minutes: float) -> dict[str, Any]:
    """Return where the processes of this attempt exchange their addresses."""
    store, own, count = next(rendezvous("env://", timeout=timedelta(minutes=minutes)))
    # torchrun keeps the store when it starts the processes anew; it holds addresses of the dead,
    # and its machines count restarts differently. The living agree on a name that is new.
    if own == 0:
        name = _invite(store, count, time.monotonic() + 60 * minutes)
    else:
        word = uuid.uuid4().hex
        store.set(f"here/{own}", word)
        name = store.get(f"answer/{word}").decode()
        store.set(f"joined/{name}/{own}", "")
    return {"store": PrefixStore(name, store), "rank": own, "world_size": count}


def _invite(store: Store, count: int, deadline: float) -> str:
    """Answer whoever says to be here, living or dead, until all the living have joined."""
    name, missing = uuid.uuid4().hex, set(range(1, count))
    while missing:
        for other in list(missing):
            if store.check([f"joined/{name}/{other}"]):
                missing.remove(other)
            elif store.check([f"here/{other}"]):
                store.set(f"answer/{store.get(f'here/{other}').decode()}", name)
        if missing and time.monotonic() > deadline:
            raise ValueError(f"waited in vain for process {', '.join(map(str, sorted(missing)))}")
        time.sleep(0.02)
    return name


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main_process() -> bool:
    """Return whether this process is the one that writes files and reports."""
    return not is_launched() or os.environ["RANK"] == "0"


def warn_first(message: str) -> None:
    """Print a warning, once for all processes."""
    if is_main_process():
        print(f"\nwarning: {message}", file=sys.stderr, flush=True)


def barrier() -> None:
    """Wait until all processes are here."""
    if world_size() > 1:
        all_reduce_(torch.zeros(1))


def all_sum(values: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes; every one has to call it."""
    if world_size() == 1:
        return values
    total = values.detach().clone()
    all_reduce_(total)
    return total


def all_reduce_(values: Tensor) -> None:
    """Replace a tensor by its sum over all processes, of which there must be several.

    Raises:
        LostProcessError: If one of them is gone.
    """
    try:
        dist.all_reduce(values)
    except RuntimeError as error:
        raise LostProcessError(_what_happened(error)) from error


@contextmanager
def lost_process_errors() -> Iterator[None]:
    """Raise the errors of a connection as LostProcessError, in a block that does more than send.

    Raises:
        LostProcessError: If another process is gone.
    """
    try:
        yield
    except LostProcessError:
        raise
    except RuntimeError as error:
        # gloo has no class of errors of its own, but each message names the file it comes from.
        if isinstance(error, dist.DistError) or "/gloo/" in str(error):
            raise LostProcessError(_what_happened(error)) from error
        raise


def _what_happened(error: RuntimeError) -> str:
    return (
        f"process {rank()} of {world_size()} stops: another process died or did not "
        f"answer in time ({first_line(error)}); its own message tells why"
    )


def any_of(*flags: bool) -> tuple[bool, ...]:
    """Tell, for each flag, whether any process has it up."""
    if world_size() == 1:
        return flags
    return tuple(bool(count) for count in all_sum(torch.tensor(flags, dtype=torch.int32)))


def all_gather_object(value: T) -> list[T]:
    """Return the values of all processes, in their order; plain values and tensors of the CPU."""
    values: list[Any] = [value]
    if world_size() > 1:
        values = [None] * world_size()
        try:
            dist.all_gather_object(values, value)
        except RuntimeError as error:
            raise LostProcessError(_what_happened(error)) from error
    return values


def united(values: Mapping[str, T]) -> dict[str, T]:
    """Return the entries that any process has."""
    return {key: value for part in all_gather_object(dict(values)) for key, value in part.items()}


def check_agreed(value: object, what: str) -> None:
    """Check that all processes hold the same plain value; all have to call this.

    Raises:
        ValueError: If they do not; `what` says of what.
    """
    first, *others = all_gather_object(value)
    for number, other in enumerate(others, start=1):
        if other != first:
            raise ValueError(
                f"processes 0 and {number} do not agree on {what}: {first} and {other}; give all "
                "the same command, and one file system for the run folder"
            )


def share_of_batch(batch_size: int) -> int:
    """Return how many images of a batch each process takes.

    Raises:
        ValueError: If they are not equally many.
    """
    if batch_size % world_size():
        raise ValueError(
            f"batch_size {batch_size} is the number of images in a step of all processes together "
            f"and cannot be divided among {world_size()}; choose a multiple"
        )
    return batch_size // world_size()


def share_of_items(count: int) -> range:
    """Return the indices that this process takes of so many; each belongs to one process."""
    return range(count * rank() // world_size(), count * (rank() + 1) // world_size())


@torch.no_grad()
def average(tensors: Sequence[Tensor]) -> None:
    """Replace tensors by their means over all processes, in place."""
    if world_size() == 1:
        return
    for bucket in _buckets(tensors):
        flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
        all_reduce_(flat)
        flat /= world_size()
        parts = torch.split(flat, [tensor.numel() for tensor in bucket])
        for tensor, part in zip(bucket, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Group tensors of one dtype, up to the size of a bucket."""
    buckets: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        bucket = buckets.setdefault(tensor.dtype, [])
        bucket.append(tensor)
        if sum(member.numel() for member in bucket) >= _BUCKET:
            yield buckets.pop(tensor.dtype)
    yield from buckets.values()
