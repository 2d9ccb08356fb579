"""The ranks of one trial, as far as a run needs them: all of them call the same operation, rank 0
does it, and each gets its answer or its error.

A rank that calls alone, or another operation than the others, ends with an error that says so, and
does not wait for ever. The talk goes over a group of gloo's own, so that it meets none of the
training's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from local_machine.errors import EXIT_IO, InputError, need
from sweeps.run.ends import LostTrialError

if TYPE_CHECKING:
    import torch
    import torch.distributed as dist

PATIENCE_SECONDS = 600.0
# What rank 0 does when all have come, such as to write a checkpoint, may take so long.
_WORK_SECONDS = 86_400.0
_READY, _DONE, _FAILED = range(3)

Answer = dict[str, Any]


class Ranks:
    """This process's place among those that train a trial together, by RANK and WORLD_SIZE."""

    def __init__(self, seconds: float = PATIENCE_SECONDS) -> None:
        """`seconds`: how long a rank waits for the others to call what it calls."""
        self.world = _number("WORLD_SIZE", 1)
        self.rank = _number("RANK", 0) if self.world > 1 else 0
        self._seconds = seconds
        self._group: dist.ProcessGroup | None = None

    def agree(self, call: str, mine: bytes, act: Callable[[list[bytes]], Answer]) -> Answer:
        """What `act` returns on rank 0, on every rank: it is given what each rank gave as `mine`.
        An InputError, OSError or LostTrialError that it raises is raised on all.

        Raises InputError where the ranks do not all make this call in time.
        """
        if self.world == 1:
            return act([mine])
        try:
            group = self._joined(call)
            if self.rank:
                return self._follow(call, mine, group)
        except (RuntimeError, ValueError) as error:
            raise self._alone(call, error) from None
        return self._lead(call, mine, act, group)

    def _joined(self, call: str) -> dist.ProcessGroup:
        need("torch", "a trial on several ranks")
        import torch.distributed as dist

        if not dist.is_available() or not dist.is_initialized():
            raise InputError(
                f"WORLD_SIZE is {self.world}, and run.{call} was called before the ranks had met",
                "call torch.distributed.init_process_group() before it",
            )
        if self._group is None:
            # Longer than rank 0 waits, so that it is the one who says which rank is missing.
            timeout = timedelta(seconds=2 * self._seconds)
            group = dist.new_group(backend="gloo", timeout=timeout)
            assert isinstance(group, dist.ProcessGroup)  # all ranks are in it
            self._group = group
        return self._group

    def _lead(
        self, call: str, mine: bytes, act: Callable[[list[bytes]], Answer], group: dist.ProcessGroup
    ) -> Answer:
        given, others = [mine], range(1, self.world)
        try:
            for rank in others:
                try:
                    theirs = json.loads(_receive(group, rank, self._seconds))
                    payload = _receive(group, rank, self._seconds)
                except RuntimeError as error:
                    raise self._alone(call, error, rank) from None
                if theirs != call:
                    raise _differ(call, rank, theirs)
                given.append(payload)
            for rank in others:
                _send(group, rank, _READY, b"")
            answer, failure = act(given), None
        except (InputError, OSError, LostTrialError) as error:
            answer, failure = _told(error), error
        for rank in others:
            # Rank 0 answers the others, although one has gone.
            with suppress(RuntimeError):
                _send(group, rank, _FAILED if failure else _DONE, json.dumps(answer).encode())
        if failure is not None:
            raise failure
        return answer

    def _follow(self, call: str, mine: bytes, group: dist.ProcessGroup) -> Answer:
        _send(group, 0, _READY, json.dumps(call).encode())
        _send(group, 0, _READY, mine)
        kind, answer = _read(group, 0, 2 * self._seconds)
        if kind == _READY:
            kind, answer = _read(group, 0, _WORK_SECONDS)
        found: Answer = json.loads(answer)
        if kind == _FAILED:
            raise _raised(found)
        return found

    def _alone(self, call: str, error: Exception, missing: int | None = None) -> InputError:
        first = str(error).partition("\n")[0]
        if missing is None:
            missing = 0 if self.rank else None
        who = "the others" if missing is None else f"rank {missing}"
        if "timed out" not in first.lower():
            return InputError(
                f"rank {self.rank} of {self.world} called run.{call}, and {who} cannot be reached "
                f"any more ({first})",
                f"see what {who} wrote last: a rank that ends, or is killed, ends its trial's "
                "attempt",
                exit_code=EXIT_IO,
            )
        return InputError(
            f"rank {self.rank} of {self.world} called run.{call}, and {who} did not within "
            f"{self._seconds:g} s ({first})",
            f"call run.{call} on every rank, not on rank 0 alone: it writes on rank 0 only",
            exit_code=EXIT_IO,
        )


def _differ(call: str, rank: int, theirs: str) -> InputError:
    return InputError(
        f"rank 0 called run.{call} and rank {rank} called run.{theirs}",
        "let every rank call load, save, checkpoint and should_stop in the same order",
    )


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else default


def _send(group: dist.ProcessGroup, rank: int, kind: int, content: bytes) -> None:
    import torch
    import torch.distributed as dist

    dist.send(torch.tensor([kind, len(content)]), rank, group)
    if content:
        dist.send(torch.frombuffer(bytearray(content), dtype=torch.uint8), rank, group)


def _receive(group: dist.ProcessGroup, rank: int, seconds: float) -> bytes:
    return _read(group, rank, seconds)[1]


def _read(group: dist.ProcessGroup, rank: int, seconds: float) -> tuple[int, bytes]:
    import torch

    head = torch.zeros(2, dtype=torch.int64)
    _wait(group, head, rank, seconds)
    kind, length = head.tolist()
    content = torch.zeros(length, dtype=torch.uint8)
    if length:
        _wait(group, content, rank, seconds)
    return kind, content.numpy().tobytes()


def _wait(group: dist.ProcessGroup, into: torch.Tensor, rank: int, seconds: float) -> None:
    import torch.distributed as dist

    work = dist.irecv(into, rank, group)
    assert work is not None
    work.wait(timedelta(seconds=seconds))


def _told(error: BaseException) -> Answer:
    if isinstance(error, InputError):
        return {"error": "InputError", "said": [error.what, error.help, error.exit_code]}
    if isinstance(error, OSError):
        name = None if error.filename is None else str(error.filename)
        return {"error": "OSError", "said": [error.errno, error.strerror, name]}
    return {"error": "LostTrialError", "said": []}


def _raised(told: Answer) -> BaseException:
    said = told["said"]
    if told["error"] == "InputError":
        return InputError(said[0], said[1], exit_code=said[2])
    return OSError(*said) if told["error"] == "OSError" else LostTrialError()
