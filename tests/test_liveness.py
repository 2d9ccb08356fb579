"""Who lives and who is dead: on one machine, on two of one name, for two users, by two clocks.

Machines and users are real ones where root may make them: namespaces, and users that own nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest
from forked import forking
from test_cancel import LONG, looking_like, wait_for

import trainer.train
from local_machine import processes
from local_machine.errors import InputError
from local_machine.files import write_atomic
from local_machine.private_folder import CODE_CACHES
from sweeps.execution.worker import Worker
from sweeps.spec.expand import expand
from sweeps.spec.sweep import Sweep
from sweeps.state import driver_lock, elsewhere
from sweeps.state import lease as leases
from sweeps.state.lease import CLAIM, Lease
from sweeps.state.lease_watch import LostTrialError, Watch
from sweeps.state.liveness import Liveness
from sweeps.state.plan import Plan
from sweeps.state.trial_store import State, TrialStore
from trainer.recipes import reported
from trial_records import trial_files

ROOT = Path(__file__).parent.parent
TRIAL = expand(Sweep(base=reported("resnet18")))[0]
LATE = 1000.0  # seconds ago

as_root = pytest.mark.skipif(
    os.getuid() != 0 or not shutil.which("unshare") or not shutil.which("setpriv"),
    reason="only root makes namespaces and becomes other users",
)


@pytest.fixture
def ledger(tmp_path: Path) -> TrialStore:
    found = TrialStore(tmp_path, "sweep")
    found.write_plan(Plan("sweep", [TRIAL], "full", {}, [], "command"))
    return found


@pytest.fixture
def folder(ledger: TrialStore) -> Path:
    path = ledger.folder_of(TRIAL)
    path.mkdir()
    return path


def write(folder: Path, claim: Lease, seconds_ago: float = 0.0) -> None:
    (folder / CLAIM).write_text(json.dumps(asdict(claim)))
    age(folder, seconds_ago)


def age(folder: Path, seconds: float) -> None:
    """Let it be so long ago that anything changed there."""
    for path in folder.iterdir():
        then = path.stat().st_mtime - seconds
        os.utime(path, (then, then))


def other_boot(claim: Lease) -> str:
    boot, _, rest = claim.boot.partition("/")
    return f"{'0' if boot[0] != '0' else '1'}{boot[1:]}/{rest}"


# One machine


def test_only_what_is_proven_is_dead(folder: Path) -> None:
    mine = Lease(1, 0, 1.0, "")
    assert processes.machine()
    for claim, seconds_ago, dead in (
        (mine, LATE, False),
        (replace(mine, process_started="1"), 0.0, True),
        (replace(mine, process_started=""), 0.0, False),  # that of its start was not to be seen
        (replace(mine, pid=2**31 - 1), 0.0, True),
        (replace(mine, pid=2**31 - 1, host="elsewhere"), LATE, False),
        (replace(mine, pid=2**31 - 1, boot=mine.boot.replace("pid:[", "pid:[1")), LATE, False),
        # This machine, restarted; and one that may be its copy.
        (replace(mine, boot=other_boot(mine)), LATE, True),
        (replace(mine, boot=other_boot(mine)), 10.0, False),
        (replace(mine, boot=other_boot(mine), machine="0" * 32), LATE, False),
        (replace(mine, boot=other_boot(mine), machine=""), LATE, False),  # as 0.1 wrote it
        (replace(mine, boot="/"), LATE, False),
        (replace(mine, host="elsewhere", host_gone=True), 0.0, True),
    ):
        write(folder, claim, seconds_ago)
        assert leases.is_dead(folder, claim) is dead, claim


def test_a_number_that_only_a_thread_has_is_no_process_of_ours() -> None:
    """`kill -0` of a thread's number succeeds; its start time is another's."""
    assert processes.is_gone(os.getpid(), "1")
    assert not processes.is_gone(os.getpid(), processes.started(os.getpid()))
    assert processes.started(2**31 - 1) == ""


@pytest.mark.parametrize(
    "change",
    [
        {"token": "../../../tmp/x"},
        {"token": "x" * 65},
        {"host": "\x1b[2J"},
        {"host": "h" * 301},
        {"host": "two\nlines"},
        {"log": "../../etc/passwd"},
        {"log": "/etc/passwd"},
        {"log": "logs/../../x"},
        {"job": "7; rm"},
        {"submission": "\x07"},
        {"pid": 0},
        {"pid": -1},
        {"pid": 10**30},
        {"launch": float("nan")},
        {"attempt": -1},
        {"pid": None},
        {"host": None},
    ],
    ids=str,
)
def test_a_forged_claim_is_not_a_claim(ledger: TrialStore, change: dict[str, object]) -> None:
    folder = ledger.folder_of(TRIAL)
    folder.mkdir()
    values = asdict(Lease(1, 0, 1.0, "")) | change
    values = {key: value for key, value in values.items() if value is not None}
    (folder / CLAIM).write_text(json.dumps(values))
    standing = ledger.standing(TRIAL)
    assert standing.state is State.UNKNOWN
    said = "damaged: NaN" if change.get("launch") else f"not a claim: {next(iter(change))}"
    assert f"{CLAIM} is {said}" in (standing.problem or "")
    assert (standing.problem or "").isprintable()


def test_a_circle_of_successors_has_an_end(folder: Path) -> None:
    first, second = Lease(1, 0, 1.0, ""), Lease(2, 0, 1.0, "")
    write(folder, first)
    for one, other in ((first, second), (second, first)):
        (folder / f".{CLAIM}.{one.token}.next").write_text(json.dumps(asdict(other)))
    assert leases.read(folder) is not None


def test_a_claim_of_0_1_is_read(folder: Path) -> None:
    old = {key: value for key, value in asdict(Lease(1, 0, 1.0, "logs/x.log")).items()
           if key not in ("machine", "cluster", "saved", "host_gone")}  # fmt: skip
    (folder / CLAIM).write_text(json.dumps(old))
    claim = leases.read(folder)
    assert claim is not None
    assert (claim.machine, claim.saved, claim.host_gone) == ("", None, False)
    assert not leases.got_on(folder, claim)


# The watch


def test_a_holder_sees_within_its_bound_that_another_has_its_trial(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.state.lease_watch.FENCE_SECONDS", 0.05)
    monkeypatch.setattr("sweeps.state.lease_watch.BEAT_SECONDS", 0.05)
    mine = leases.take(folder, Lease(1, 0, 1.0, ""), lambda *_: True)
    assert mine is not None
    with Watch(folder, mine) as watch:
        age(folder, LATE)
        wait_for(lambda: (leases.silence(folder) or 0.0) < LATE / 2)  # it says that it lives
        watch.check()
        assert leases.give_up(folder, mine)
        wait_for(lambda: watch.is_lost)
        with pytest.raises(LostTrialError):
            watch.check()
    with pytest.raises(LostTrialError):
        Watch(folder, mine).look()


@pytest.mark.parametrize("broken", [True, False])
def test_a_worker_that_lost_its_trial_writes_nothing_more_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    """It was cut off, in the middle of a step: no question between steps comes before its write."""
    ledger = TrialStore(tmp_path, "sweep")
    first, second = expand(Sweep(base=reported("resnet18"), seeds=2))

    def train(
        config: object, out: Path, fence: Callable[[], None], **_: object
    ) -> dict[str, float]:
        if out.name == first.name and not (out / "begun").exists():
            (out / "begun").touch()
            held = leases.read(out)
            assert held is not None
            assert leases.give_up(out, held)
            if not broken:
                raise RuntimeError("an error of this attempt, nothing to the next")
        fence()
        (out / trial_files.RUN).touch()
        return {"val_accuracy": 0.5, "test_accuracy": 0.5, "seconds": 2.0, "epochs_run": 1}

    monkeypatch.setattr(trainer.train, "train", train)
    Worker(ledger, 1.0, "log").run([first, second])
    assert not (ledger.folder_of(first) / trial_files.FAILURE).exists()
    assert (ledger.folder_of(second) / trial_files.RUN).exists()
    # Nobody took it meanwhile, so that this worker did, as a new attempt.
    assert (ledger.folder_of(first) / trial_files.RUN).exists()
    assert ledger.standing(first).state is State.DONE


# Clocks


@pytest.mark.parametrize("ahead", [-3600.0, 0.0, 3600.0])
def test_what_failed_is_tried_once_by_each_launch_whatever_the_clocks_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    """Two hosts' launches, one host's clock being wrong by an hour."""
    ledger = TrialStore(tmp_path, "sweep")
    ran: list[float] = []

    def train(config: object, out: Path, **_: object) -> None:
        held = leases.read(out)
        assert held is not None
        ran.append(held.launch)
        raise ValueError("always")

    monkeypatch.setattr(trainer.train, "train", train)
    now = time.time()
    launches = {now: 0.0, now + ahead + 1.0: ahead}
    for _ in range(3):
        for launch, wrong_by in launches.items():
            with monkeypatch.context() as patch:
                patch.setattr(time, "time", lambda by=wrong_by: now + by)
                Worker(ledger, launch, "log", retry_only=_ > 0).run([TRIAL])
    assert ran == list(launches)
    assert not Worker(ledger, now + 5.0, "log", retry_only=True).run([TRIAL])
    assert len(ran) == 3  # a retry is a launch of its own


def test_a_pruned_trial_is_wanted_whole_by_every_other_launch(
    ledger: TrialStore, folder: Path
) -> None:
    for pruned_at in (0.0, time.time() + 3600):
        trial_files.Pruned("00000000", 1, 2, pruned_at, [5.0]).write(folder)
        standing = ledger.standing(TRIAL)
        assert standing.state is State.PRUNED
        for launch, wanted in ((5.0, False), (4.0, True), (6.0, True)):
            assert Worker(ledger, launch, "log").wants(standing) is wanted


@pytest.mark.parametrize("ahead", [-3600.0, 3600.0])
def test_getting_on_is_another_checkpoint_and_no_time(folder: Path, ahead: float) -> None:
    def checkpoint(text: str) -> None:
        write_atomic(folder / trial_files.CHECKPOINT, lambda file: file.write(text.encode()))
        then = time.time() + ahead
        os.utime(folder / trial_files.CHECKPOINT, (then, then))

    checkpoint("of an attempt before")
    held = leases.take(folder, Lease(1, 0, 1.0, ""), lambda *_: True)
    assert held is not None
    assert not leases.got_on(folder, held)
    checkpoint("of this one")
    assert leases.got_on(folder, held)


def test_a_submission_of_another_host_is_given_up_after_a_while(folder: Path) -> None:
    """Its launch may live: nobody can tell from here. Slurm does not know the job."""

    class Empty:
        def jobs(self, ids: list[str]) -> dict[str, None]:
            return dict.fromkeys(ids)

        def mine(self) -> list[object]:
            return []

    scheduler = Liveness(Empty())  # type: ignore[arg-type]
    sent = Lease(1, 0, 1.0, "logs", submission="0" * 12, claimed_at=time.time() + 3600)
    gone = {"pid": 2**31 - 1, "process_started": "1"}
    for claim, ages in (
        (replace(sent, host="elsewhere"), {30.0: True, 300.0: True, 700.0: False}),
        (replace(sent, **gone), {30.0: True, 70.0: False}),  # type: ignore[arg-type]
        (sent, {700.0: True}),  # its launch is this process
    ):
        for seconds, alive in ages.items():
            write(folder, claim, seconds)
            assert scheduler.is_alive(claim, folder) is alive, (claim.host, seconds)


# Two machines and two users


@dataclass(frozen=True)
class Machine:
    """A machine as far as its processes can tell: a name, a boot, an identity, who sees whom."""

    host: str = ""
    boot: str = ""
    identity: str = ""
    hidepid: bool = False
    user: int = 0
    home: Path = Path("/root")

    def words(self, *command: object) -> list[str]:
        """The command line that runs a command there."""
        setup = ["set -e"]
        for word, path in (
            (self.boot, "/proc/sys/kernel/random/boot_id"),
            (self.identity, "/etc/machine-id"),
        ):
            if word:
                file = self.home / f"{Path(path).name}-{word[:4]}"
                file.write_text(f"{word}\n")
                setup.append(f"mount --bind {file} {path}")
        if self.user:
            setup += self._open_python()
        if self.hidepid:
            setup.append("mount -t proc -o hidepid=2 proc /proc")
        if self.host:
            setup.append(f"hostname {self.host}")
        become = f"setpriv --reuid {self.user} --regid 2000 --clear-groups" if self.user else ""
        setup.append(f"umask 002; exec {become} {shlex.join(map(str, command))}")
        return ["unshare", "--mount", "--uts", "sh", "-c", "\n".join(setup)]

    def _open_python(self) -> list[str]:
        """Where this Python lies in a folder of root's alone, such as /root: the way to it."""
        python = Path(sys.executable).resolve()
        for closed in reversed(python.parents):
            if not closed.stat().st_mode & 0o001:
                inside = closed / python.relative_to(closed).parts[0]
                way = self.home / "way"
                (way / inside.name).mkdir(parents=True, exist_ok=True)
                return [
                    f"mount --bind {inside} {way / inside.name}", f"mount --rbind {way} {closed}",
                ]  # fmt: skip
        return []

    def run(self, module: str, *words: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.words(sys.executable, "-m", module, *words),
            capture_output=True, text=True, cwd=ROOT, env=self.environment(), timeout=120,
        )  # fmt: skip

    def environment(self) -> dict[str, str]:
        """The caches and sites of the user's own home, not those of these tests."""
        others = {"SWEEPS_CACHE", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", *CODE_CACHES}
        inherited = os.environ.keys() - others
        own = {"HOME": str(self.home), "PYTHONDONTWRITEBYTECODE": "1"}
        return {name: os.environ[name] for name in inherited} | own


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder of a group, in which its users write what all of them may write."""
    path = Path(tempfile.mkdtemp(prefix="sweeps-shared-"))
    try:
        os.chown(path, 1001, 2000)
        path.chmod(0o2775)
        for user in (1001, 1002):
            home = path / f"home-{user}"
            home.mkdir()
            os.chown(home, user, 2000)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def states(said: subprocess.CompletedProcess[str]) -> list[str]:
    assert said.stdout, said.stderr
    return [trial["state"] for trial in json.loads(said.stdout)["trials"]]


def claim_of(results: Path) -> Lease:
    (path,) = results.rglob(CLAIM)
    claim = leases.read(path.parent)
    assert claim is not None
    return claim


def sane(said: subprocess.CompletedProcess[str], code: int) -> subprocess.CompletedProcess[str]:
    """No traceback, and the exit code; what it said."""
    assert "Traceback" not in said.stderr, said.stderr
    assert "this is a bug" not in said.stderr, said.stderr
    assert said.returncode == code, said.stderr
    return said


@as_root
def test_two_users_who_do_not_see_each_others_processes_share_a_sweep(shared: Path) -> None:
    definition, results = shared / "sweep.py", shared / "results"
    definition.write_text(LONG)
    words = ("sweep", "--results", results)
    launch = (definition, "--results", results, "--on", "local", "--detach")
    one, two = (
        Machine(hidepid=True, user=user, home=shared / f"home-{user}") for user in (1001, 1002)
    )
    sane(one.run("sweeps.launch", *launch), 0)
    held = claim_of(results)
    assert processes.owner(held.pid) == 1001
    try:
        # The other one's process cannot be seen, and lives.
        assert states(sane(two.run("sweeps.status", *words, "--json"), 0)) == ["running"]
        assert "0 to run" in sane(two.run("sweeps.launch", *launch), 0).stderr
        assert "0 to run" in sane(two.run("sweeps.retry", *words, "--on", "local"), 0).stderr
        said = sane(two.run("sweeps.cancel", *words, "--yes"), 1).stderr
        assert f"not cancelled: process {held.pid}" in said
        assert f"kill {held.pid}" in said
        assert claim_of(results).token == held.token
        os.kill(held.pid, signal.SIGKILL)
        # One that was not waited for yet is told from a living one only by who sees its state.
        wait_for(lambda: not Path(f"/proc/{held.pid}").exists())
        # It is gone, which every user can tell.
        assert "1 to run" in sane(two.run("sweeps.launch", *launch), 0).stderr
        successor = claim_of(results)
        assert processes.owner(successor.pid) == 1002
        assert successor.attempt == 2
        for path in results.rglob("*"):
            mode, owner = path.stat().st_mode, path.stat()
            assert owner.st_gid == 2000, path
            assert mode & 0o020, path  # the group may write it
        sane(two.run("sweeps.cancel", *words, "--yes"), 0)
        wait_for(lambda: not list(results.rglob(CLAIM)))
        assert states(sane(one.run("sweeps.status", *words, "--json"), 0)) == ["pending"]
    finally:
        for path in results.rglob(CLAIM):
            os.kill(claim_of(path.parent).pid, signal.SIGKILL)


VM = Machine(host="vm", boot="a" * 36, identity="a" * 32)


@contextlib.contextmanager
def held_on(machine: Machine, results: Path) -> Iterator[Lease]:
    """The trial held by a process of a machine, until the block's end."""
    program = (
        "import sys, time; from pathlib import Path; from sweeps.state.trial_store import "
        "TrialStore as Ledger\n"
        "ledger = Ledger(Path(sys.argv[1]), 'sweep'); (plan,) = ledger.plans()\n"
        "assert ledger.claim(plan.trials[0], 1.0, ''); print('held', flush=True); time.sleep(100)"
    )
    command = machine.words(sys.executable, "-c", program, results)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, cwd=ROOT, env=machine.environment()
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        try:
            yield claim_of(results)
        finally:
            holder.kill()


@as_root
@pytest.mark.parametrize(
    ("here", "seconds_ago", "state"),
    [
        (replace(VM, boot="b" * 36, identity="b" * 32), LATE, "running"),  # another one of its name
        (replace(VM, boot="b" * 36), 0.0, "running"),  # its copy, or itself, just restarted
        (replace(VM, boot="b" * 36), LATE, "lost"),  # itself, restarted
        (replace(VM, host="node"), LATE, "running"),
        (VM, LATE, "running"),
    ],
    ids=["other", "copy", "restarted", "named", "same"],
)
def test_two_machines_of_one_name(
    ledger: TrialStore, tmp_path: Path, here: Machine, seconds_ago: float, state: str
) -> None:
    there, here = replace(VM, home=tmp_path), replace(here, home=tmp_path)
    with held_on(there, tmp_path) as claim:
        assert (claim.host, claim.boot[:36]) == ("vm", "a" * 36)
        age(ledger.folder_of(TRIAL), seconds_ago)
        words = ("sweep", "--results", tmp_path)
        assert states(here.run("sweeps.status", *words, "--json")) == [state]
        if state == "running":
            # Neither command takes it, and both say who has it.
            said = here.run("sweeps.retry", *words, "--on", "local")
            is_seen = here == there
            assert sane(said, int(not is_seen and seconds_ago > 0)).returncode in (0, 1)
            assert ("held on vm" in said.stderr) is not is_seen
            assert ("--host-gone vm" in said.stderr) is (not is_seen and seconds_ago > 0)
            assert claim_of(tmp_path) == claim


@as_root
def test_what_a_machine_that_is_gone_held_goes_on_elsewhere_and_it_does_not_if_it_comes_back(
    tmp_path: Path,
) -> None:
    definition, results = tmp_path / "sweep.py", tmp_path / "results"
    definition.write_text(LONG)
    words = ("sweep", "--results", results, "--on", "local")
    node = Machine(host="gone-node", home=tmp_path)
    launch = subprocess.Popen(
        node.words(sys.executable, "-m", "sweeps.launch", definition, *words[1:]), cwd=ROOT,
        stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(lambda: bool(list(results.rglob(trial_files.EPOCHS))))
        held = claim_of(results)
        folder = next(results.rglob(CLAIM)).parent
        os.kill(held.pid, signal.SIGSTOP)  # cut off
        age(folder, LATE)
        here = Machine()
        said = here.run("sweeps.status", "sweep", "--results", results).stdout
        assert re.search(r"running.*pid \d+ on gone-node,\s+nothing\s+heard since", said, re.DOTALL)
        launched = sane(here.run("sweeps.launch", definition, *words[1:]), 1)
        assert "held on gone-node, nothing heard since" in launched.stderr
        command = re.search(r"if gone-node is gone for good: (.*)", launched.stderr)
        assert command is not None
        typed = shlex.split(command[1].replace("python", sys.executable, 1))
        with subprocess.Popen([*typed, "--on", "local"], cwd=ROOT, stderr=subprocess.PIPE) as retry:
            wait_for(lambda: claim_of(results).attempt == 2)
            wait_for(lambda: leases.checkpoint(folder) != claim_of(results).saved)
            os.kill(held.pid, signal.SIGCONT)  # it was only cut off
            log = results / "sweep" / held.log
            wait_for(lambda: "another attempt holds" in log.read_text())
            now = claim_of(results)
            assert (now.attempt, now.host) == (2, processes.host())
            retry.send_signal(signal.SIGINT)
            assert retry.wait(60) == 130
        wait_for(lambda: launch.poll() is not None)
        assert not list(results.rglob(trial_files.FAILURE))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(held.pid, signal.SIGKILL)
        launch.terminate()
        launch.wait()


# Breaking what a host holds


def test_a_host_that_lives_is_not_gone(ledger: TrialStore, folder: Path) -> None:
    write(folder, Lease(1, 0, 1.0, ""))
    with pytest.raises(InputError, match=f"process {os.getpid()} runs on this machine"):
        elsewhere.take_from(processes.host(), ledger.folder, Liveness())
    assert ledger.standing(TRIAL).state is State.RUNNING
    with pytest.raises(InputError, match="holds nothing") as error:
        elsewhere.take_from("nowhere", ledger.folder, Liveness())
    assert processes.host() in error.value.help


def test_a_host_that_is_gone_lets_go_of_everything(ledger: TrialStore, folder: Path) -> None:
    search, compacting = ledger.folder / "searches" / "00000000", ledger.folder / "compact"
    for place in (folder, search, compacting, ledger.folder):
        place.mkdir(parents=True, exist_ok=True)
        write(place, Lease(1, 0, 1.0, "", host="gone"))
    broken, kept = elsewhere.take_from("gone", ledger.folder, Liveness())
    assert (len(broken), kept) == (4, [])
    assert ledger.standing(TRIAL).state is State.LOST
    assert ledger.drivers() == ({}, [])
    taken = ledger.claim(TRIAL, 2.0, "")
    assert taken is not None
    assert (taken.attempt, taken.host_gone) == (2, False)


# Folders and files that cannot be read


@as_root
@pytest.mark.parametrize("what", ["folder", CLAIM, trial_files.FAILURE, trial_files.PRUNED])
def test_what_cannot_be_read_is_its_own_trials_problem(
    shared: Path, tmp_path: Path, what: str
) -> None:
    ledger = TrialStore(shared, "sweep")
    bad, good = expand(Sweep(base=reported("resnet18"), seeds=2))
    ledger.write_plan(Plan("sweep", [bad, good], "full", {}, [], "command"))
    folder = ledger.folder_of(bad)
    folder.mkdir()
    if what == trial_files.PRUNED:
        # Where it stands beside the claim of one who is gone, too.
        write(folder, Lease(1, 0, 1.0, "", process_started="1"))
    path = folder if what == "folder" else folder / what
    if path != folder:
        path.write_text("{}")
    path.chmod(0)
    user = Machine(user=1001, home=shared / "home-1001")
    words = ("sweep", "--results", shared)
    said = sane(user.run("sweeps.status", *words, "--json"), 1)
    assert states(said) == ["unknown", "pending"]
    assert f"cannot read {path}" in said.stdout
    assert "cannot write" not in said.stdout + said.stderr
    for command, more in (("cancel", ["--yes"]), ("retry", ["--on", "local"])):
        said = sane(user.run(f"sweeps.{command}", *words, *more), 1)
        assert f"cannot read {path}" in said.stderr
        assert "cannot write" not in said.stderr


# Cancel


def test_a_forged_claim_ends_no_process_that_is_not_the_sweeps(
    ledger: TrialStore, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "made" / "sweeps"
    (made / "execution").mkdir(parents=True)
    for name in ("execution/worker", "search", "status"):
        (made / f"{name}.py").write_text("import time; time.sleep(60)")
    other = tmp_path / "other"
    other.mkdir()
    worker = ["sweeps.execution.worker", str(ledger.folder), "--launch", "0.0"]
    searched = ["sweeps.search", "sweep", "--results", str(ledger.folder.parent)]
    for words, launch, ours in (
        (worker, "0.0", True),
        ([*worker[:-1], "1.0"], "0.0", False),  # of another launch
        (worker, "1.0", False),
        (
            ["sweeps.execution.worker", str(other), "--launch", "0.0"],
            "0.0",
            False,
        ),  # of another sweep
        (searched, "", True),
        (["sweeps.search", "other", "--results", str(ledger.folder.parent)], "", False),
        (["sweeps.search", "sweep"], "", False),  # in the results folder where it works
        (["sweeps.status", "sweep", "--results", str(ledger.folder.parent)], "", False),
    ):
        with looking_like(words, tmp_path / "made", launch) as one:
            started = processes.started(one.pid)
            write(folder, Lease(1, 0, 0.0, "", pid=one.pid, process_started=started))
            with forking():
                done = subprocess.run(
                    [sys.executable, "-m", "sweeps.cancel", "sweep", "--results", str(tmp_path),
                     "--yes"],
                    capture_output=True, text=True, cwd=ROOT,
                )  # fmt: skip
            assert done.returncode == int(not ours), (words, done.stderr)
            if ours:
                assert one.wait(10) == -signal.SIGTERM
            else:
                assert one.poll() is None
                assert f"if it is yours: kill {one.pid}" in done.stderr


def test_a_job_that_sees_its_claim_is_anothers_does_nothing(
    ledger: TrialStore, folder: Path
) -> None:
    """A launch of another machine was slow, and its submission was given up meanwhile."""
    sent = Lease(1, 0, 1.0, "logs", submission="0" * 12, host="elsewhere")
    write(folder, sent, LATE)
    other = leases.take(folder, Lease(1, 0, 2.0, ""), lambda *_: False)
    assert other is not None
    assert not leases.is_held(folder, sent)
    assert not leases.install(folder, sent, replace(sent, job="7"))
    assert leases.read(folder) == other


# What a person is told


def test_a_study_whose_machine_is_gone_is_taken_back_by_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "study").mkdir()
    write(tmp_path / "study", Lease(1, 0, 1.0, "", host="gone"), LATE)
    with (
        pytest.raises(
            InputError, match=r"on gone, nothing heard since .* drives this study"
        ) as told,
        driver_lock.held(tmp_path / "study", tmp_path, {}, Liveness(), "study", "wait for it"),
    ):
        raise AssertionError
    advice = told.value.help.partition("for good: ")[2]
    assert subprocess.run(
        advice.replace("python", sys.executable, 1), shell=True, cwd=ROOT
    ).returncode == 0  # fmt: skip
    with driver_lock.held(tmp_path / "study", tmp_path, {}, Liveness(), "study", "") as check:
        check()


def test_a_driver_that_was_cut_off_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.state.lease_watch.FENCE_SECONDS", 0.05)
    with driver_lock.held(tmp_path, tmp_path.parent, {}, Liveness(), "search", "") as check:
        held = leases.read(tmp_path)
        assert held is not None
        assert leases.give_up(tmp_path, held)
        with pytest.raises(InputError, match="another driver has taken this search over"):
            wait_for(lambda: bool(check()), 10)


@pytest.mark.parametrize(("mode", "warns"), [(0o777, 1), (0o1777, 1), (0o2775, 0)])
def test_a_folder_that_everybody_may_write_is_told_once(
    ledger: TrialStore, mode: int, warns: int
) -> None:
    results = ledger.folder.parent
    results.chmod(mode)
    for command in ("status", "cancel"):
        with forking():
            done = subprocess.run(
                [sys.executable, "-m", f"sweeps.{command}", "sweep", "--results", str(results)],
                capture_output=True, text=True, cwd=ROOT,
            )  # fmt: skip
        assert done.stderr.count("warning: anyone on this machine may write") == warns
