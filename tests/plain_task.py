"""A plain training function, with dropout and shuffling by the global generators of torch, numpy
and Python; and processes that run it as a worker would, and can be made to die or to hang at any
call of the operating system.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sweeps.run import attempt_folder, checkpoint_file
from sweeps.run.attempt import Attempt
from sweeps.run.ends import LostTrialError, StoppedError
from sweeps.run.handle import Run, metrics_of
from trial_records.log import LogWriter

EPOCHS = 5
FINGERPRINT = "0" * 64
CONFIG = "{}"
# A line for each epoch that was trained, by whichever attempt.
TRAINED = "trained.txt"


def train(config: Any, run: Run) -> dict[str, float]:
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    images = torch.randn(64, 8)
    labels = (images.sum(1) > 0).long()
    state = run.load()
    if state is not None:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    for epoch in range(0 if state is None else int(state["epoch"]), EPOCHS):
        model.train()
        order = torch.randperm(64)
        for batch in order[np.random.permutation(64)].split(random.randint(9, 16)):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
            torch.autograd.backward(loss)
            _average(model)
            optimizer.step()
        if run.ranks.rank == 0:
            with (run.attempt.trial.parent / TRAINED).open("a") as file:
                file.write(f"{epoch}\n")
        run.log(epoch=epoch, loss=loss)
        run.log(epoch=epoch, accuracy=_accuracy(model, images, labels), drawn=np.random.rand())
        run.should_stop()
        run.save(
            {"epoch": np.int64(epoch + 1), "model": model.state_dict(),
             "optimizer": optimizer.state_dict()}
        )  # fmt: skip
    passed("returning")
    return {"test_accuracy": _accuracy(model, images, labels)}


def _average(model: nn.Module) -> None:
    if torch.distributed.is_initialized():
        for value in model.parameters():
            torch.distributed.all_reduce(value.grad)


def _accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    model.eval()
    with torch.inference_mode():
        return float((model(images).argmax(1) == labels).float().mean())


said = Path()
LOST = 7


def say(word: str) -> None:
    with said.open("a") as file:
        file.write(f"{word}\n")


_counts: dict[str, itertools.count[int]] = {}


def passed(place: str) -> None:
    """Die or stop here, where the environment says so."""
    number = next(_counts.setdefault(place, itertools.count()))
    here = f"{place}:{number}"
    if os.environ.get("DIES_AT") == here and int(os.environ.get("RANK", "0")) == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    if os.environ.get("HANGS_AT") == here:
        say("hangs")
        os.kill(os.getpid(), signal.SIGSTOP)


def _before(of: Any, name: str, place: str, when: Callable[..., bool] = lambda *_: True) -> None:
    """Have `passed` called before each call of the function."""
    inner = getattr(of, name)

    def outer(*given: Any, **more: Any) -> Any:
        if when(*given):
            passed(place)
        return inner(*given, **more)

    setattr(of, name, outer)


def watched() -> None:
    """Every place where a kill has another effect."""
    _before(LogWriter, "append", "log", lambda _, kind, __: kind == "row")
    _before(LogWriter, "sync", "sync")
    _before(checkpoint_file, "write", "write")
    # pathlib's, which write_atomic uses.
    _before(os, "replace", "rename", lambda one, _: "checkpoint.pt" in str(one))
    _before(LogWriter, "saved", "saved")
    _before(attempt_folder, "publish", "publish")
    _before(os, "replace", "run", lambda _, other: str(other).endswith("trial/run.parquet"))
    _before(attempt_folder, "remove", "remove")


def main(trial: Path, token: str, number: int) -> None:
    global said
    said = trial.parent / "said.txt"
    torch.set_num_threads(1)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        torch.distributed.init_process_group("gloo")
    watched()
    attempt = Attempt(trial, FINGERPRINT, CONFIG, token, number, task="plain")
    run = Run(attempt)
    try:
        returned = train(None, run)
        passed("returned")
        if run.ranks.rank == 0:
            run.finish(metrics_of(returned))
    except LostTrialError:
        say("lost")
        sys.exit(LOST)
    except StoppedError:
        run.end()
    with suppress(Exception):
        torch.distributed.barrier()


FORK = multiprocessing.get_context("fork")


def begin(trial: Path, token: str, number: int, ranks: int = 1, **where: str) -> list[Any]:
    """One attempt, a process for each rank."""
    trial.mkdir(parents=True, exist_ok=True)
    attempt_folder.make(trial, token)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = dict(where)
    if ranks > 1:
        env |= {"WORLD_SIZE": f"{ranks}", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": f"{port}"}
    processes = [
        FORK.Process(target=_process, args=(trial, token, number, {**env, "RANK": f"{rank}"}))
        for rank in range(ranks)
    ]
    for one in processes:
        one.start()
    return processes


def _process(trial: Path, token: str, number: int, env: dict[str, str]) -> None:
    os.environ.update(env)
    main(trial, token, number)


def ended(processes: list[Any]) -> list[int]:
    """Their exit codes; where rank 0 was killed the others are, too."""
    processes[0].join(60)
    for other in processes[1:]:
        if processes[0].exitcode:
            other.kill()
        other.join(60)
    return [one.exitcode for one in processes]


def wait_for_word(trial: Path, word: str) -> None:
    """Until a process has said it."""
    path, until = trial.parent / "said.txt", time.monotonic() + 60
    while not path.exists() or word not in path.read_text().split():
        assert time.monotonic() < until
        time.sleep(0.02)
