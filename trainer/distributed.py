"""The process group of one trial: one process, or DDP through the env:// variables.

torchrun and Slurm launchers set RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT; without
them there is one process and every reduction is the identity.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from local_machine.errors import EXIT_IO, InputError

RENDEZVOUS_SECONDS = 180

_HELP = "start the trial with torchrun, or unset WORLD_SIZE for one process"

T = TypeVar("T")


@dataclass(frozen=True)
class Group:
    """This process's place among those that train together."""

    rank: int
    world: int
    device: torch.device
    hosts: Any = None  # a gloo group beside NCCL's; None for the default group

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over all ranks, in place."""
        if self.world > 1:
            dist.all_reduce(tensor)
        return tensor

    def any(self, flag: bool) -> bool:
        """Whether it is true on any rank; through the hosts, so that no GPU is waited for."""
        if self.world == 1:
            return flag
        flags = torch.tensor(int(flag))
        dist.all_reduce(flags, group=self.hosts)
        return bool(flags)

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value, on every rank."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def from_main(self, make: Callable[[], T]) -> T:
        """What `make` returns, or the InputError or OSError it raises, on rank 0: on every rank."""
        if self.world == 1:
            return make()
        result, error = None, None
        if self.is_main:
            try:
                result = make()
            except (InputError, OSError) as caught:
                error = caught
        result, error = self.broadcast((result, error))
        if error is not None:
            raise error
        return cast(T, result)

    def shard(self, index: torch.Tensor) -> torch.Tensor:
        """This rank's contiguous part of a global batch; parts differ in size by at most one."""
        return torch.tensor_split(index, self.world)[self.rank]


def parallel(model: nn.Module, group: Group) -> nn.Module:
    """The model as the group trains it: DDP takes its copy of the weights from rank 0, and leaves
    BatchNorm's statistics to `average_statistics`."""
    if group.world == 1:
        return model
    with warnings.catch_warnings():
        # The argument that newer versions of torch want instead is unknown to those before.
        warnings.filterwarnings("ignore", ".*broadcast_buffers", FutureWarning)
        return DistributedDataParallel(model, broadcast_buffers=False)


def average_statistics(model: nn.Module, group: Group) -> None:
    """BatchNorm's running statistics: each rank saw its own part, all continue with the mean."""
    for buffer in model.buffers() if group.world > 1 else ():
        if buffer.is_floating_point():
            group.sum(buffer).div_(group.world)


def _env(name: str) -> int:
    text = os.environ.get(name, "")
    if not (text.isascii() and text.isdigit()):
        raise InputError(f"WORLD_SIZE is set but {name}={text!r} is not a number", _HELP)
    return int(text)


@functools.cache
def _store(rank: int, world: int, address: str, port: str) -> Store:
    """Where the ranks meet: one for all groups of this process, since a second server at the same
    port could take the first one's clients."""
    timeout = timedelta(seconds=RENDEZVOUS_SECONDS)
    store: Store = next(rendezvous("env://", rank, world, timeout=timeout))[0]
    return store


# Groups joined by this process: their keys in the store, which outlives them, must differ.
_joined = itertools.count()


# The group that this process is in.
_current: list[Group] = []


@contextlib.contextmanager
def join() -> Iterator[Group]:
    """Join the group that the environment describes, and leave it at the end; within another such
    block, be in that one's.

    Raises InputError where the environment is incomplete or the others cannot be reached in time.
    """
    if _current:
        yield _current[-1]
        return
    with _joined_anew() as group:
        _current.append(group)
        try:
            yield group
        finally:
            _current.pop()


@contextlib.contextmanager
def _joined_anew() -> Iterator[Group]:
    world = _env("WORLD_SIZE") if "WORLD_SIZE" in os.environ else 1
    rank = _env("RANK") if world > 1 else 0
    if not rank < world:
        raise InputError(f"RANK={rank} is not below WORLD_SIZE={world}", _HELP)
    if world > 1:
        if not os.environ.get("MASTER_ADDR"):
            raise InputError("WORLD_SIZE is set but MASTER_ADDR is not", _HELP)
        _env("MASTER_PORT")
    cuda = torch.cuda.is_available()
    # A launcher may show each rank one GPU only, or all of them.
    local = _env("LOCAL_RANK") % torch.cuda.device_count() if cuda and world > 1 else 0
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if world == 1:
        yield Group(0, 1, device)
        return
    address, port = os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"]
    timeout = timedelta(seconds=RENDEZVOUS_SECONDS)
    try:
        store = PrefixStore(f"{next(_joined)}", _store(rank, world, address, port))
        dist.init_process_group(
            "nccl" if cuda else "gloo", timeout=timeout, store=store, rank=rank, world_size=world
        )
    except (ValueError, RuntimeError) as error:
        raise InputError(
            f"rank {rank} of {world} could not meet the others at {address}:{port}: {error}",
            "check that MASTER_ADDR resolves and is reachable from every node",
            exit_code=EXIT_IO,
        ) from None
    finished = False
    try:
        hosts = dist.new_group(backend="gloo") if cuda else None
        yield Group(rank, world, device, hosts)
        finished = True
    finally:
        # A rank that closes its connections can reset them under another that still reads the
        # last message: all leave together. Without a store, rank 0 was done and is gone.
        with contextlib.suppress(RuntimeError):
            store.set(f"left-{rank}", "")
            if finished:
                store.wait([f"left-{other}" for other in range(world)], timeout)
        dist.destroy_process_group()
