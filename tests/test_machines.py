"""Who lives and who is dead on two machines of one name, and for two users.

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
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from saved_trials import epochs_of_all
from test_cancel import LONG, wait_for
from test_liveness import LATE, TRIAL, age, write

from local_machine import processes
from local_machine.files import matching
from local_machine.private_folder import CODE_CACHES
from sweeps.spec.expand import expand
from sweeps.spec.sweep import Sweep
from sweeps.state import lease as leases
from sweeps.state.lease import CLAIM, Lease
from sweeps.state.plan import Plan
from sweeps.state.trial_store import TrialStore
from trainer.recipes import reported
from trial_records import trial_files

ROOT = Path(__file__).parent.parent

as_root = pytest.mark.skipif(
    os.getuid() != 0 or not shutil.which("unshare") or not shutil.which("setpriv"),
    reason="only root makes namespaces and becomes other users",
)


@pytest.fixture
def store(tmp_path: Path) -> TrialStore:
    found = TrialStore(tmp_path, "sweep")
    found.write_plan(Plan("sweep", [TRIAL], "full", {}, [], "command"))
    return found


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


def lease_of(results: Path) -> Lease:
    (path,) = results.rglob(CLAIM)
    lease = leases.read(path.parent)
    assert lease is not None
    return lease


def sane(said: subprocess.CompletedProcess[str], code: int) -> subprocess.CompletedProcess[str]:
    """No traceback, and the exit code; what it said."""
    assert "Traceback" not in said.stderr, said.stderr
    assert "this is a bug" not in said.stderr, said.stderr
    assert said.returncode == code, said.stderr
    return said


@pytest.mark.long
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
    held = lease_of(results)
    assert processes.owner(held.pid) == 1001
    try:
        # The other one's process cannot be seen, and lives.
        assert states(sane(two.run("sweeps.status", *words, "--json"), 0)) == ["running"]
        assert "0 to run" in sane(two.run("sweeps.launch", *launch), 0).stderr
        assert "0 to run" in sane(two.run("sweeps.retry", *words, "--on", "local"), 0).stderr
        said = sane(two.run("sweeps.cancel", *words, "--yes"), 1).stderr
        assert f"not cancelled: process {held.pid}" in said
        assert f"kill {held.pid}" in said
        assert lease_of(results).token == held.token
        os.kill(held.pid, signal.SIGKILL)
        # One that was not waited for yet is told from a living one only by who sees its state.
        wait_for(lambda: not Path(f"/proc/{held.pid}").exists())
        # It is gone, which every user can tell.
        assert "1 to run" in sane(two.run("sweeps.launch", *launch), 0).stderr
        successor = lease_of(results)
        assert processes.owner(successor.pid) == 1002
        assert successor.attempt == 2
        for path in results.rglob("*"):
            mode, owner = path.stat().st_mode, path.stat()
            assert owner.st_gid == 2000, path
            assert mode & 0o020, path  # the group may write it
        sane(two.run("sweeps.cancel", *words, "--yes"), 0)
        wait_for(
            lambda: all(
                leases.read(path.parent) is None for path in matching(results, f"**/{CLAIM}")
            )
        )
        assert states(sane(one.run("sweeps.status", *words, "--json"), 0)) == ["pending"]
    finally:
        for path in matching(results, f"**/{CLAIM}"):
            if (held := leases.read(path.parent)) is not None:
                os.kill(held.pid, signal.SIGKILL)


VM = Machine(host="vm", boot="a" * 36, identity="a" * 32)


@contextlib.contextmanager
def held_on(machine: Machine, results: Path) -> Iterator[Lease]:
    """The trial held by a process of a machine, until the block's end."""
    program = (
        "import sys, time; from pathlib import Path; from sweeps.state.trial_store import "
        "TrialStore as Store\n"
        "store = Store(Path(sys.argv[1]), 'sweep'); (plan,) = store.plans()\n"
        "assert store.lease(plan.trials[0], 1.0, ''); print('held', flush=True); time.sleep(100)"
    )
    command = machine.words(sys.executable, "-c", program, results)
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, cwd=ROOT, env=machine.environment()
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        try:
            yield lease_of(results)
        finally:
            holder.kill()


@pytest.mark.long
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
    store: TrialStore, tmp_path: Path, here: Machine, seconds_ago: float, state: str
) -> None:
    there, here = replace(VM, home=tmp_path), replace(here, home=tmp_path)
    with held_on(there, tmp_path) as lease:
        assert (lease.host, lease.boot[:36]) == ("vm", "a" * 36)
        age(store.folder_of(TRIAL), seconds_ago)
        words = ("sweep", "--results", tmp_path)
        assert states(here.run("sweeps.status", *words, "--json")) == [state]
        if state == "running":
            # Neither command takes it, and both say who has it.
            said = here.run("sweeps.retry", *words, "--on", "local")
            is_seen = here == there
            assert sane(said, int(not is_seen and seconds_ago > 0)).returncode in (0, 1)
            assert ("held on vm" in said.stderr) is not is_seen
            assert ("--host-gone vm" in said.stderr) is (not is_seen and seconds_ago > 0)
            assert lease_of(tmp_path) == lease


@pytest.mark.long
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
        wait_for(lambda: epochs_of_all(results) > 0)
        held = lease_of(results)
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
            wait_for(lambda: lease_of(results).attempt == 2)
            wait_for(lambda: leases.checkpoint(folder) != lease_of(results).saved)
            os.kill(held.pid, signal.SIGCONT)  # it was only cut off
            log = results / "sweep" / held.log
            wait_for(lambda: "another attempt holds" in log.read_text())
            now = lease_of(results)
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


# Folders and files that cannot be read


@pytest.mark.long
@as_root
@pytest.mark.parametrize("what", ["folder", CLAIM, trial_files.FAILURE, trial_files.PRUNED])
def test_what_cannot_be_read_is_its_own_trials_problem(
    shared: Path, tmp_path: Path, what: str
) -> None:
    store = TrialStore(shared, "sweep")
    bad, good = expand(Sweep(base=reported("resnet18"), seeds=2))
    store.write_plan(Plan("sweep", [bad, good], "full", {}, [], "command"))
    folder = store.folder_of(bad)
    folder.mkdir()
    if what == trial_files.PRUNED:
        # Where it stands beside the lease of one who is gone, too.
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
