"""The display of work under way: a live table on a terminal, a line a change off it; on stderr."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import TracebackType

from rich.live import Live

from sweeps.cli import table
from sweeps.cli.fitted_view import fitted
from sweeps.state.plan import Plan
from sweeps.state.progress import Progress


def _live() -> Live:
    return Live(console=table.console(sys.stderr), auto_refresh=False)


@dataclass
class Display:
    """A context in which `show` may be called again and again."""

    live: bool
    """Whether to draw the table."""
    drawing: Live = field(default_factory=_live)
    said: dict[str, str] = field(default_factory=dict)  # of each trial, last

    def __enter__(self) -> Display:
        if self.live:
            self.drawing.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.live:
            self.drawing.__exit__(kind, error, trace)

    def show(self, plan: Plan, progress: list[Progress], over: int, total: int) -> None:
        """How the trials stand; `over` of `total` have ended."""
        if self.live:
            self.drawing.update(fitted([(plan, progress)], self.drawing.console), refresh=True)
        else:
            self._say_changes(progress, over, total)

    def _say_changes(self, progress: list[Progress], over: int, total: int) -> None:
        for one in progress:
            words = str(one.state)
            if one.state == "done" and one.best is not None:
                words += f", best {one.what} {one.best_in_words}"
                words += f" in {one.epochs_done} {one.trial.task.budget or 'rows'}"
            elif one.state in ("failed", "lost"):
                words += f", {one.note}"
            if one.trial.name not in self.said and one.state != "running":
                self.said[one.trial.name] = words  # how things stood at the start is not news
            elif self.said.get(one.trial.name) != words:
                self.said[one.trial.name] = words
                print(f"[{over}/{total}] {one.trial.name}: {words}", file=sys.stderr, flush=True)
