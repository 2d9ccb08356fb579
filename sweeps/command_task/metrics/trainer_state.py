"""Metrics in trainer_state.json, which Hugging Face's Trainer writes with each checkpoint: the
whole history each time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from local_machine.files import matching
from sweeps.command_task.metrics.source import Position, Raw


class TrainerState:
    """The newest of the files of that name in a folder."""

    output: Path | None = None

    def __init__(self, folder: Path, glob: str) -> None:
        self._folder, self._glob = folder, glob
        self._stamp: tuple[str, int, int] | None = None
        self._seen = False

    def files(self) -> list[Path]:
        newest = self._newest()
        return [] if newest is None else [Path(newest[1])]

    def _newest(self) -> tuple[int, str] | None:
        found = matching(self._folder, self._glob)
        return max(((one.stat().st_mtime_ns, str(one)) for one in found), default=None)

    def read(self) -> Sequence[Raw]:
        try:
            newest = self._newest()
            if newest is None:
                return []
            self._seen = True
            stamp = (newest[1], newest[0], Path(newest[1]).stat().st_size)
            if stamp == self._stamp:
                return []
            history = json.loads(Path(newest[1]).read_bytes())["log_history"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return []  # it is just being written
        except FileNotFoundError:
            return []  # the Trainer just removes an old checkpoint
        self._stamp = stamp
        return [row for row in history if isinstance(row, dict)] if history else []

    def end(self, *, is_whole: bool) -> None:
        pass

    def position(self) -> Position:
        return {}

    def missing(self) -> str:
        where = self._folder / self._glob
        return f"{where} has no log_history" if self._seen else f"{where} never appeared"
