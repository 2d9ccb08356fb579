"""Sweeps in a notebook: launching them, where their trials stand, their figures as pandas frames.

    import sweeps

    opened = sweep.launch("lr", on="local", detach=True)   # or sweeps.open("results", "lr")
    opened.wait()
    opened.runs().groupby("optimizer.lr")["val_accuracy"].mean()

Every call of an opened sweep looks at the results folder again. What gives a frame raises
InputError where pandas, of the extra `report`, is not installed.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from local_machine import clock
from local_machine.errors import EXIT_INTERRUPTED, InputError, need
from sweeps.spec.sweep import Sweep
from sweeps.state.liveness import Liveness
from sweeps.state.progress import Progress, counts, look
from sweeps.state.trial_store import State, TrialStore, launched, resolve
from trial_records.names import is_name
from trial_records.plan import FIRST_TASK
from trial_records.trial_files import EPOCHS

if TYPE_CHECKING:
    import pandas as pd

# Between two trials a worker holds none for a moment, and a job may be on its way to the queue.
WAIT_SECONDS, IDLE_LOOKS = 2.0, 5


@dataclass
class OpenedSweeps:
    """Some sweeps of a results folder, as they stand at each call."""

    stores: list[TrialStore]
    problems: list[InputError] = field(default_factory=list)
    """What the last call could not read; the trials that it concerns are not in its answer."""
    _known: dict[str, dict[str, Progress]] = field(default_factory=dict, repr=False)

    @property
    def names(self) -> list[str]:
        """Of the sweeps."""
        return [store.sweep for store in self.stores]

    def states(self) -> dict[str, State]:
        """Where each trial stands, by its folder in the results, `SWEEP/TRIAL`.

        Raises SlurmError where Slurm does not answer.
        """
        return {f"{store.sweep}/{one.trial.name}": one.state for store, one in self._look()}

    def counts(self) -> dict[str, int]:
        """How many trials are in each state, every state named. Raises as `states` does."""
        return counts(one for _, one in self._look())

    def trials(self) -> pd.DataFrame:
        """A row a trial: its sweep, name, state and point (a column an axis), the epochs (or what
        else its task counts) that it has of those that it is to have, its task's metric, its best
        by the task's objective so far, of the trainer its validation accuracy (0 to 1), why it is
        excluded (`sweeps exclude`) or None, and a note.

        Raises as `states` does.
        """
        need("pandas", "a data frame")
        import pandas as pd

        return pd.DataFrame(
            {
                "sweep": store.sweep,
                "trial": one.trial.name,
                "state": str(one.state),
                **one.trial.point,
                "epochs_done": one.epochs_done,
                "epochs_planned": one.trial.epochs,
                "best_val_accuracy": one.best if one.metric == FIRST_TASK.metric else None,
                "metric": one.metric,
                "best": one.best,
                "excluded": one.marked.excluded.words if one.marked.excluded else None,
                "note": one.note,
            }
            for store, one in self._look()
        )

    def runs(self) -> pd.DataFrame:
        """A row a finished trial: its sweep, its name and the columns of its run.parquet. Choose
        by `val_accuracy`: the test images are for what was chosen.

        Each file is verified; what is damaged is left out and added to `problems`. Raises as
        `states` does.
        """
        need("pandas", "a data frame")
        import pandas as pd

        return pd.DataFrame(
            # Where it lies now, whatever the file says of where it was written.
            {"sweep": sweep, "trial": trial} | row | {"sweep": sweep, "trial": trial}
            for (sweep, trial), row in self._runs(self._look()).items()
        )

    def epochs(self) -> pd.DataFrame:
        """A row an epoch of every trial that has any, as its epochs.parquet has it, with the
        trial's sweep and name. What is damaged is left out, as in `runs`. Raises as `states` does.
        """
        need("pandas", "a data frame")
        import pandas as pd

        from trial_records import rows, tables

        found = self._look()
        runs = self._runs(found)
        frames = []
        for store, one in found:
            run = runs.get((store.sweep, one.trial.name), {})
            try:
                folder = store.folder_of(one.trial)
                if run:
                    frame = tables.read_epochs(folder, run.get(tables.DIGESTS[EPOCHS])).to_pandas()
                else:
                    frame = pd.DataFrame(row.values for row in rows.read(folder))
            except FileNotFoundError:
                continue  # it has none yet
            except InputError as problem:
                self.problems.append(problem)
                continue
            frame.insert(0, "sweep", store.sweep)
            frame.insert(1, "trial", one.trial.name)
            frames.append(frame)
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def wait(self, timeout: float | None = None) -> bool:
        """Until every trial is over (done, failed or pruned) and no search asks for more, at most
        `timeout` seconds; whether they are. Also returns once nothing has run or been queued for
        ten seconds: trials that no process trains do not end. Raises as `states` does.
        """
        deadline = None if timeout is None else clock.monotonic() + timeout
        idle = 0
        while True:
            driven = any(store.drivers()[0] for store in self.stores)
            states = set(self.states().values())
            if not driven and all(state.is_over for state in states):
                return True
            idle = 0 if driven or states & {State.RUNNING, State.QUEUED} else idle + 1
            left = WAIT_SECONDS if deadline is None else deadline - clock.monotonic()
            if idle > IDLE_LOOKS or left <= 0:
                return False
            clock.sleep(min(WAIT_SECONDS, left))

    def _look(self) -> list[tuple[TrialStore, Progress]]:
        """Every trial of every plan, each once; and again what is a problem."""
        self.problems = []
        found = []
        for store in self.stores:
            plans, problems = store.readable_plans()
            self.problems += problems
            trials = {trial.name: trial for plan in plans for trial in plan.trials}
            known = self._known.setdefault(store.sweep, {})
            found += [(store, one) for one in look(store, trials.values(), known)]
        return found

    def _runs(
        self, trials: Iterable[tuple[TrialStore, Progress]]
    ) -> dict[tuple[str, str], dict[str, Any]]:
        """The row of run.parquet of each that is done, by sweep and trial."""
        from trial_records import tables

        rows = {}
        for store, one in trials:
            if one.state is State.DONE:
                try:
                    row = tables.read_run(store.folder_of(one.trial), one.trial.fingerprint)
                except FileNotFoundError:
                    continue  # moved away meanwhile
                except InputError as problem:
                    self.problems.append(problem)
                    continue
                rows[store.sweep, one.trial.name] = row
        return rows


def open(results: str | Path = "results", name: str | None = None) -> OpenedSweeps:  # noqa: A001
    """The sweep of that name in a results folder, or every sweep there.

    Raises InputError where there is none, or the folder cannot be read.
    """
    folder = Path(results)
    if name is not None:
        return OpenedSweeps([resolve(folder, name)])
    names = launched(folder)
    if not names:
        raise InputError(f"no sweep in {folder}", "launch one: python -m sweeps.launch NAME")
    liveness = Liveness.here()
    return OpenedSweeps([TrialStore(folder, one, liveness) for one in names])


Word = TypeVar("Word", bound=StrEnum)


def _chosen(kind: type[Word], name: str, word: str) -> Word:
    try:
        return kind(word)
    except ValueError:
        raise InputError(f"{name}={word!r}", f"choose one of: {', '.join(kind)}") from None


def launch_sweep(
    sweep: Sweep,
    name: str,
    *,
    results: str | Path = "results",
    scale: Literal["full", "cpu", "smoke"] = "full",
    overrides: Mapping[str, Any] | None = None,
    seeds: int | None = None,
    on: Literal["auto", "slurm", "local", "debug"] = "auto",
    workers: int | None = None,
    per_gpu: int | Literal["auto"] | None = None,
    site: str = "default",
    detach: bool = False,
) -> OpenedSweeps:
    """Run what is left of the sweep, under this name, and open it; `sweep.launch(name, ...)` is the
    same. What the words mean is what `python -m sweeps.launch --help` says of the options.

    Returns when nothing runs any more or, with `detach`, once the trials run. A trial that failed
    is in `states()`. Raises InputError and SlurmError where the command would refuse, and
    KeyboardInterrupt once the trials were given back; those of jobs, and with `detach`, go on.
    """
    from sweeps.cli.options import ScaleName, Where, plan_of
    from sweeps.execution.request import request_of
    from sweeps.launching import dispatch
    from sweeps.spec.backend_name import BackendName

    if not is_name(name):
        raise InputError(f"{name!r} is not a valid name of a sweep", "use letters, digits, _ and -")
    if workers is not None and workers < 1:
        raise InputError(f"workers={workers}", "give 1 or more")
    if on == "debug" and threading.current_thread() is not threading.main_thread():
        raise InputError(
            'on="debug" in a thread, which hears no signals', 'give on="local", or no thread'
        )
    sharing = None if per_gpu is None else str(per_gpu)
    backend = _chosen(BackendName, "on", on)
    where = Where(backend, workers, sharing, site, results=Path(results))
    request = request_of(where, sweep.resources, detach=detach, defined_here=True)
    store = TrialStore(where.results, name, Liveness.here(request.site.query_seconds))
    plan = plan_of(
        sweep,
        store,
        _chosen(ScaleName, "scale", scale),
        overrides or {},
        seeds,
        f"sweep.launch({name!r})",
    )
    # What the command says on stdout is for a shell.
    with contextlib.redirect_stdout(None):
        code = dispatch.run(store, [plan], request, {})
    if code == EXIT_INTERRUPTED:
        raise KeyboardInterrupt
    return OpenedSweeps([store])
