"""Event files for TensorBoard: DEST/SWEEP/TRIAL/events.out.tfevents.*, a folder for each trial.

Scalars have 32 bits there; the configuration is in the tab HParams. What a trial logs later goes
into a further file of its folder.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from analysis.export.target import RESULT, required
from analysis.export.trial import Point, Trial
from local_machine import clock
from local_machine.files import matching

_FILES = "events.out.tfevents.*"


class TensorBoard:
    appends = True

    def __init__(self, dest: Path) -> None:
        """Raises InputError where TensorBoard is not installed."""
        required("tensorboard", "tensorboard")
        self._dest = dest

    def has(self, trial: Trial) -> bool:
        return any(self._files(trial))

    def remove(self, trial: Trial) -> None:
        for path in list(self._files(trial)):
            path.unlink()

    def write(self, trial: Trial, points: Sequence[Point], since: int) -> None:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._wait_for_a_later_name(trial)
        writer = EventFileWriter(str(self._folder(trial)))
        try:
            for event in _events(trial, points, since):
                writer.add_event(event)
        finally:
            writer.close()

    def close(self) -> None:
        pass

    def _wait_for_a_later_name(self, trial: Trial) -> None:
        """TensorBoard reads a folder's files in the order of their names. These have the second in
        them, and after it a counter that is compared as text, 10 before 9."""
        now = clock.now()
        if any(
            path.name.startswith(f"{_FILES[:-1]}{int(now):010}.") for path in self._files(trial)
        ):
            clock.sleep(1.0 - now % 1.0)

    def _folder(self, trial: Trial) -> Path:
        return self._dest / trial.sweep / trial.name

    def _files(self, trial: Trial) -> Iterator[Path]:
        with contextlib.suppress(FileNotFoundError):
            yield from matching(self._folder(trial), _FILES)


def _events(trial: Trial, points: Sequence[Point], since: int) -> Iterator[Any]:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import summary_v2

    now = clock.now()
    last = points[-1].step if points else 0
    if not since:
        known = {name: _hparam(value) for name, value in trial.config.items()}
        given = {name: value for name, value in known.items() if value is not None}
        hparams = summary_v2.hparams_pb(given, trial.name, trial.began)
        yield Event(wall_time=now, step=0, summary=hparams)
    for point in points[since:]:
        values = [_scalar(name, value) for name, value in point.numbers.items()]
        yield Event(wall_time=now, step=point.step, summary=Summary(value=values))
    if trial.is_over:
        values = [_scalar(RESULT + name, value) for name, value in trial.results.items()]
        yield Event(wall_time=now, step=last, summary=Summary(value=values))


def _scalar(tag: str, value: float) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    # Of 32 bits: TensorBoard's fast loader shows no scalar of 64.
    return Summary.Value(tag=tag, simple_value=value)


def _hparam(value: Any) -> bool | float | str | None:
    """A value of the configuration as HParams takes it; None for what it cannot hold."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value if isinstance(value, bool | int | float | str) else str(value)
