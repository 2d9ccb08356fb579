"""Taking over, by two that each believe to hold the trial, in every order of their steps."""

from __future__ import annotations

import os
import random
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeps.run import attempt_folder
from sweeps.run.ends import LostTrialError
from trial_records import trial_files

CALLS = ("rename", "rmdir", "mkdir", "scandir")


class Turns:
    """Lets threads make one call of the operating system each, in an order drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.waiting: dict[int, threading.Event] = {}
        self.alive: set[int] = set()
        self.changed = threading.Condition()

    def wait(self) -> None:
        me = threading.get_ident()
        event = threading.Event()
        with self.changed:
            if me not in self.alive:
                return
            self.waiting[me] = event
            self.changed.notify()
        assert event.wait(10)

    def run(self, *acts: Callable[[], Any]) -> None:
        threads = [threading.Thread(target=self._one, args=(act,)) for act in acts]
        for thread in threads:
            thread.start()
        begun = 0
        while True:
            with self.changed:
                begun = max(begun, len(self.alive))
                self.changed.wait_for(lambda: self.waiting.keys() == self.alive, 10)
                if not self.alive and all(not one.is_alive() for one in threads):
                    return
                if self.waiting.keys() == self.alive and self.alive:
                    self.waiting.pop(self.draw.choice(sorted(self.waiting))).set()
            if not self.alive:
                for thread in threads:
                    thread.join(0.01)

    def _one(self, act: Callable[[], Any]) -> None:
        me = threading.get_ident()
        with self.changed:
            self.alive.add(me)
        try:
            self.wait()
            act()
        finally:
            with self.changed:
                self.alive.discard(me)
                self.changed.notify()


@pytest.mark.parametrize("first", range(4))
def test_what_was_saved_is_nowhere_lost_and_is_the_last_holders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    turns = Turns(0)
    for name in CALLS:
        inner = getattr(os, name)

        def outer(*given: Any, inner: Any = inner, **more: Any) -> Any:
            turns.wait()
            return inner(*given, **more)

        monkeypatch.setattr(os, name, outer)
    ends: set[tuple[str, str]] = set()
    for seed in range(first, 400, 4):
        trial = tmp_path / "trial"
        shutil.rmtree(trial, ignore_errors=True)
        trial.mkdir()
        for token in ("before", "hung", "holder"):
            attempt_folder.make(trial, token)
        begun = attempt_folder.path_of(trial, "before") / trial_files.FILES
        if seed % 3:
            begun.mkdir()
            (begun / "saved").write_text("saved")
        found: dict[str, str] = {}

        def take(token: str, trial: Path = trial, found: dict[str, str] = found) -> None:
            try:
                attempt_folder.take_over(trial, token)
                found[token] = "has it"
            except LostTrialError:
                found[token] = "lost"

        turns = Turns(seed)
        turns.run(lambda: take("hung"), lambda: take("holder"))
        ends.add((found["hung"], found["holder"]))
        if seed % 3:
            assert len(list(trial.glob("attempt-*/files/**/saved"))) == 1
        if found["holder"] == "has it" and "lost" in found["hung"]:
            # Whatever the other does now, it gets nothing back.
            before = sorted(trial.rglob("*"))
            take("hung")
            assert found["hung"] == "lost" and sorted(trial.rglob("*")) == before
            assert [path.name for path in trial.iterdir()] == ["attempt-holder"]
        if "has it" in found.values():
            assert len(list(trial.iterdir())) == 1
    assert ends >= {("lost", "has it"), ("has it", "lost")}
