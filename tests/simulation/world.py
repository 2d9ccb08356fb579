"""One world: what a seed says happens, and whether all that must hold did."""

from __future__ import annotations

import contextlib
import signal
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from random import Random
from unittest import mock

from local_machine import clock
from local_machine.errors import GuidedError
from simulation import programs, readers, slurm_commands
from simulation.checks import ViolationError, Witness
from simulation.cluster import Cluster
from simulation.faults import Faults
from simulation.machine import edges
from simulation.machine.calls import Calls, in_place
from simulation.machine.filesystem import FileServer
from simulation.machine.hosts import Body, Host, Process, boot
from simulation.machine.mount import Mount
from simulation.machine.scheduler import EndlessError, Scheduler
from simulation.readers import Told
from simulation.scenario import Actor, Scenario
from simulation.task import Training
from sweeps.spec.backend_name import BackendName
from sweeps.state.progress import Progress
from sweeps.state.trial_store import State, TrialStore
from trial_records import archive

# When faults end, and how long what runs then may still take.
HEALED = 4000.0
PATIENCE = 4000.0
# For so long an error of the disk may still be told.
TROUBLED_SECONDS = 120.0
# For so long a host may believe what it knows of a file, over NFS.
NFS_SECONDS = 60.0


@dataclass
class Outcome:
    """What became of a seed."""

    violations: list[str]
    steps: int
    digest: str
    struck: list[int]
    """The steps at which faults struck."""
    trace: list[str]


class World:
    def __init__(self, scenario: Scenario, *, traced: bool = False) -> None:
        self.scenario = scenario
        seed = scenario.seed
        self.scheduler = Scheduler(seed, scenario.switchiness)
        self.scheduler.trace = [] if traced else None
        self.server = FileServer(lambda: edges.START + self.scheduler.now)
        self.server.create(self.server.root, "results", is_folder=True)
        self.server.sync(self.server.root)
        self.hosts = [self._host(n, seed) for n in range(scenario.hosts)]
        results = f"{programs.RESULTS}"
        self.witness = Witness(self.scheduler, self.server, results)
        self.witness.living = self._living
        self.witness.is_given_up = self._is_given_up
        self.faults = Faults(
            self, seed, scenario.kinds, scenario.faults, frozenset(scenario.skipped)
        )
        self.scheduler.on_step = self.faults.at
        self.scheduler.on_error = self._failed
        self.calls = Calls(self.scheduler, Mount(self.server, self._now, Random(0), 0.0))
        self.cluster = self._cluster() if scenario.slurm else None
        self.calls.lost_answer = self.faults.loses
        self.training = Training(self.witness, scenario.seconds, scenario.refused)
        self.ends: list[Process] = []

    def _now(self) -> float:
        return self.scheduler.now

    @property
    def _late(self) -> float:
        """What is older than so many seconds, every host knows."""
        return NFS_SECONDS if self.scenario.nfs else 0.0

    def _host(self, number: int, seed: int) -> Host:
        mount = Mount(self.server, self._now, Random(f"mount {seed} {number}"), self._late)
        name = "twin" if self.scenario.twins else f"host{number}"
        random = Random(f"host {seed} {number}")
        offset = random.choice((0.0, 0.0, 3600.0, -3600.0, 5.0))
        hides = self.scenario.hides and number == 0
        return Host(name, f"m{number}", mount, offset, hides=hides)

    def _living(self) -> Iterator[Process]:
        for host in self.hosts:
            for process in host.processes.values():
                if process.alive:
                    yield process

    def _is_given_up(self, process: Process) -> bool:
        """Whether Slurm takes the process's job for over, or has started it again."""
        if self.cluster is None or "job" not in process.memory:
            return False
        jobs = [one for one in self.cluster.jobs if one.process is process and not one.forgotten]
        return not any(one.state in ("RUNNING", "COMPLETING") for one in jobs)

    def _cluster(self) -> Cluster:
        nodes = self.hosts[1:] or self.hosts
        start = partial(programs.start_job, self.scheduler)
        accounts = self.scenario.slurm
        return Cluster(self.scheduler, nodes, self.scenario.seed, start, accounts=accounts)

    def play(self) -> Outcome:
        """Let everything happen. The outcome says what did not hold."""
        with self._in_place():
            try:
                for actor in self.scenario.actors:
                    self.scheduler.at(actor.at, partial(self._begin, actor))
                self.scheduler.run(HEALED)
                self._heal()
                self.scheduler.run(HEALED + PATIENCE)
                self._check_ended()
                self._last_launches()
                self._check_states()
            except ViolationError as violation:
                self.witness.violated(str(violation))
            except EndlessError as endless:
                self.witness.violated(f"endless: {endless}")
            finally:
                self.scheduler.end()
        trace = self.scheduler.trace or []
        digest = self.scheduler.digest.hexdigest()
        violations = self.witness.violations
        return Outcome(violations, self.scheduler.steps, digest, self.faults.struck, trace)

    @contextlib.contextmanager
    def _in_place(self) -> Iterator[None]:
        starter = programs.Starter(self.scheduler)
        with contextlib.ExitStack() as stack:
            seed = self.scenario.seed
            stack.enter_context(edges.Edges(self.scheduler, self.calls, seed, starter).in_place())
            stack.enter_context(
                programs.in_place(self.scheduler, self.training, self.scenario.poll)
            )
            stack.enter_context(slurm_commands.in_place(self.cluster))
            stack.enter_context(told_before(TrialStore, "finish", self._finished))
            for patch in self.scenario.mutation():
                stack.enter_context(patch)
            stack.enter_context(in_place(self.calls))
            yield

    def _finished(self, store: TrialStore, trial: object, lease: object) -> None:
        folder = self.witness.folder(store.sweep, getattr(trial, "name"))  # noqa: B009
        run = None if folder is None else folder.names.get("run.parquet")
        if folder is not None and run is not None:
            self.witness.finished(getattr(trial, "name"), bytes(run.data))  # noqa: B009

    # What happens

    def _begin(self, actor: Actor) -> None:
        host = self.hosts[actor.host % len(self.hosts)]
        if host.up:
            self.start(host, actor.word, actor.sweep, self._body(actor))

    def _body(self, actor: Actor) -> Body:
        other = self.hosts[(actor.host + 1) % len(self.hosts)]
        here = actor.here or self.cluster is None
        sweep, backend = actor.sweep, BackendName.LOCAL if here else BackendName.SLURM
        workers = (actor.workers or 1) if here else actor.workers
        bodies: dict[str, Callable[[], int | None]] = {
            "launch": lambda: programs.launch(
                sweep, actor.count, backend, workers, minutes=self.scenario.minutes
            ),
            "detached": lambda: programs.launch(
                sweep, actor.count, backend, workers, minutes=self.scenario.minutes, detach=True
            ),
            "retry": lambda: programs.retry(sweep, backend),
            "fresh": lambda: programs.retry(sweep, backend, fresh=True),
            "gone": lambda: programs.retry(sweep, backend, other.name),
            "cancel": lambda: programs.cancel(sweep),
            "compact": lambda: programs.compact(sweep),
            "undo": lambda: programs.compact(sweep, undo=True),
            "status": lambda: self._read(sweep, 40, told_by_status),
            "report": lambda: self._read(sweep, 8, told_by_report),
        }
        return bodies[actor.kind]

    def start(self, host: Host, word: str, sweep: str, body: Body) -> Process:
        """A person types a command."""
        words = ["python", "-m", word, sweep, "--results", str(programs.RESULTS)]
        environment = programs.ENVIRONMENT
        made = Process(self.scheduler, host, words, programs.as_command(body), environment)
        made.handlers |= programs.handlers()
        made.memory["sweep"] = sweep
        return made

    def _read(self, sweep: str, times: int, read: Callable[[str], list[Told]]) -> int:
        """A reader, who looks again and again."""
        process = self.scheduler.process
        assert process is not None
        for _ in range(times):
            since = self.scheduler.now
            disturbed = False
            try:
                found = read(sweep)
            except Exception as error:
                disturbed = process.host.disturbed >= since - TROUBLED_SECONDS or is_absent(error)
                if not disturbed:
                    raise
            else:
                if process.host.disturbed < since:
                    self.witness.told(sweep, found, since, self._late)
            clock.sleep(30.0)
        return 0

    def boot(self, host: Host) -> None:
        if not host.up:
            boot(host)

    def check_kept(self) -> None:
        """What was committed is there, in truth."""
        current, self.scheduler.current = self.scheduler.current, None
        self.calls.process.memory.clear()
        self.witness.check_kept(self._is_compacted)
        self.scheduler.current = current

    def _is_compacted(self, sweep: str, trial: str) -> bool:
        return archive.find(programs.RESULTS / sweep / trial) is not None

    def _failed(self, process: Process, error: BaseException) -> None:
        """A process ended in an error that is none of its commands'."""
        if isinstance(error, OSError) and "lost_answer" in process.memory:
            return  # a rename that was done, of which it was told that it was not
        since = self.scheduler.now - TROUBLED_SECONDS
        if process.host.disturbed < since or not isinstance(error, OSError | GuidedError):
            self.witness.violated(f"{process} ended in {told_of(error)}")

    # The end

    def _heal(self) -> None:
        """No fault from now on; what was broken is repaired."""
        self.faults.over = True
        for host in self.hosts:
            self.boot(host)
            host.disk.clear()
            for process in list(host.processes.values()):
                process.send(signal.SIGCONT)
        if self.cluster is not None:
            self.cluster.away = -1.0
        self.scheduler.note("HEALED")

    def _check_ended(self) -> None:
        for host in self.hosts:
            for process in list(host.processes.values()):
                if process.alive:
                    raise ViolationError(f"{process} has not ended")

    def _last_launches(self) -> None:
        """A person sees to what is left, in a world without faults."""
        host = self.hosts[0]
        for sweep in self.scenario.sweeps:
            for attempt in range(3):
                self._do(host, "sweeps.launch", sweep, partial(self._launch_all, sweep))
                left = [one for one in self._look(sweep) if one.state is State.RUNNING]
                if not left:
                    break
                # Nothing runs any more, whatever it says: of machines that only a person can
                # know to be gone.
                if attempt == 2:
                    names = ", ".join(one.trial.name for one in left)
                    raise ViolationError(f"{sweep}: {names} runs for ever")
                for gone in sorted({one.standing.lease.host for one in left if one.standing.lease}):
                    body = partial(programs.retry, sweep, BackendName.LOCAL, gone)
                    self._do(host, "sweeps.retry", sweep, body)

    def _launch_all(self, sweep: str) -> int:
        on_slurm = self.cluster is not None and self.scenario.seed % 2
        backend = BackendName.SLURM if on_slurm else BackendName.LOCAL
        return programs.launch(sweep, self.scenario.trials, backend, None if on_slurm else 1)

    def _do(self, host: Host, word: str, sweep: str, body: Body) -> Process:
        """Have a command run to its end."""
        process = self.start(host, word, sweep, body)
        self.scheduler.run(self.scheduler.now + PATIENCE)
        if process.alive:
            raise ViolationError(f"{process} has not ended")
        return process

    def _look(self, sweep: str) -> list[Progress]:
        found: list[Progress] = []

        def look() -> None:
            found.extend(programs.status(sweep))

        process = self._do(self.hosts[0], "sweeps.status", sweep, look)
        if process.error is not None:
            raise ViolationError(f"the last status of {sweep}: {process.error!r}")
        return found

    def _check_states(self) -> None:
        self.check_kept()
        for sweep in self.scenario.sweeps:
            for one in self._look(sweep):
                allowed = {State.DONE, State.FAILED}
                if one.state not in allowed or one.problem is not None:
                    self.witness.violated(
                        f"at the end {sweep}/{one.trial.name} is {one.state}: {one.problem}; "
                        f"{one.note}"
                    )


@contextlib.contextmanager
def told_before(kind: type, name: str, tell: Callable[..., None]) -> Iterator[None]:
    """Have the world told before each call of a method."""
    real = getattr(kind, name)

    def call(self: object, *given: object) -> object:
        tell(self, *given)
        return real(self, *given)

    with mock.patch.object(kind, name, call):
        yield


def told_by_status(sweep: str) -> list[Told]:
    return [readers.by_status(one) for one in programs.status(sweep)]


def told_by_report(sweep: str) -> list[Told]:
    return readers.by_report(programs.report(sweep))


def is_absent(error: Exception) -> bool:
    """Whether a reader was told that there is no such sweep yet."""
    words = ("no sweep ", "has no plan of ", "holds no plan ")
    return isinstance(error, GuidedError) and any(one in error.what for one in words)


def told_of(error: BaseException) -> str:
    """An error and where it was raised, in a line."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({last.filename.rpartition('/')[2]}:{last.lineno})"
