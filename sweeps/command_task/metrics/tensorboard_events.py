"""Metrics in TensorBoard's event files: the scalars, under their tags."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from local_machine.files import matching
from sweeps.command_task.metrics.source import Position, Raw


class TensorBoardEvents:
    """The event files of a folder and of what is in it; each process that logs begins one."""

    output: Path | None = None

    def __init__(self, folder: Path, glob: str, position: Position) -> None:
        self._folder, self._glob = folder, glob
        self._read = {name: int(count) for name, count in position.items()}
        self._skipped = dict(self._read)  # events that an earlier attempt has read
        self._loaders: dict[str, Any] = {}
        self._seen = False

    def files(self) -> list[Path]:
        paths = {
            path
            for folder in (self._folder, *matching(self._folder, self._glob))
            if folder.is_dir()
            for path in matching(folder, "events.out.tfevents.*")
        }
        return sorted(paths, key=lambda path: path.name)

    def read(self) -> Sequence[Raw]:
        found: list[Raw] = []
        with suppress(FileNotFoundError):
            for path in self.files():
                self._seen = True
                found += self._rows(path)
        return found

    def _rows(self, path: Path) -> Iterator[Raw]:
        name = str(path.relative_to(self._folder))
        if name not in self._loaders:
            from tensorboard.backend.event_processing import event_file_loader

            self._loaders[name] = event_file_loader.EventFileLoader(str(path))
        # It gives what came since, up to the first event that is not whole.
        for event in self._loaders[name].Load():
            if self._skipped.get(name, 0) > 0:
                self._skipped[name] -= 1
                continue
            self._read[name] = self._read.get(name, 0) + 1
            for value in event.summary.value:
                number = _scalar(value)
                if number is not None:
                    yield {"step": event.step, value.tag: number}

    def end(self, *, is_whole: bool) -> None:
        pass

    def position(self) -> Position:
        return dict(self._read)

    def missing(self) -> str:
        what = "event files have no scalar" if self._seen else "event file never appeared"
        return f"{self._folder}: {'its' if self._seen else 'an'} {what}"


def _scalar(value: Any) -> float | None:
    """Of a summary's value, which EventFileLoader gives as a tensor."""
    if value.HasField("simple_value"):
        return float(value.simple_value)
    if value.HasField("tensor") and not value.tensor.tensor_shape.dim:
        from tensorboard.util import tensor_util

        made = tensor_util.make_ndarray(value.tensor)
        return float(made) if made.dtype.kind in "fiu" else None
    return None
