"""The development cluster: a whole Slurm that boots, runs jobs, takes blows and goes without trace.

What needs a real Slurm is marked `slurm`, and skipped where one cannot be booted.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from local_machine.errors import SlurmError
from slurm.dev_cluster import cluster as dev_cluster
from slurm.dev_cluster import config, daemons
from slurm.dev_cluster import folder as cluster_folder
from slurm.dev_cluster.cluster import Cluster
from slurm.dev_cluster.config import Machine, Shape

ROOT = Path(__file__).parent.parent
NODES = 4
PORTS = {"slurmctld": 1, "slurmdbd": 2, "mariadbd": 3, "n1": 4, "n2": 5}
MACHINE = Machine("here", (22, 5, 8), loopback_name=True)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    start = time.monotonic()
    # Twice the CPUs of most machines that this runs on, and a grace that a test can wait for.
    with running(tmp_path_factory.mktemp("one"), cpus_per_node=4, grace_seconds=3) as one:
        print(f"booted in {time.monotonic() - start:.1f} s")
        yield one


@contextlib.contextmanager
def running(folder: Path, **wanted: int) -> Iterator[Cluster]:
    try:
        dev_cluster.require(dev_cluster.missing_packages(), os.geteuid())
    except SlurmError as error:
        pytest.skip(f"{error.what}; {error.help}")
    with dev_cluster.running(folder, **wanted) as one:
        yield one


@dataclass(frozen=True)
class Preemption:
    """Two jobs on n3 and n4, which a third has claimed, and what they print.

    One queues itself again when it is warned; one waits until it is thrown out, which takes half a
    minute, in which the other tests run.
    """

    jobs: list[str]
    itself: Path
    waits: Path


@pytest.fixture(scope="module")
def preemption(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Preemption:
    script = """
    echo "start $SLURM_RESTART_COUNT"
    [ "$SLURM_RESTART_COUNT" = 1 ] && exit
    trap 'echo warned; %s' USR2
    for _ in {1..600}; do sleep 0.1; done
    """
    folder = tmp_path_factory.mktemp("preemption")
    itself, waits, high = folder / "itself", folder / "waits", folder / "high"
    options = ("--exclusive", "--requeue", "--signal=B:USR2@60")
    again = "scontrol requeue $SLURM_JOB_ID"
    jobs = [
        submit(cluster, itself, script % again, "--nodelist=n3", *options),
        submit(cluster, waits, script % "true", "--nodelist=n4", *options),
    ]
    wait_for(lambda: "start" in text(itself) and "start" in text(waits))
    jobs.append(
        submit(cluster, high, "true", "--partition=high", "--nodelist=n[3-4]", "--exclusive")
    )
    return Preemption(jobs, itself, waits)


def ask(cluster: Cluster, *words: str) -> str:
    """What a user's command prints."""
    done = subprocess.run(
        words, env=os.environ | cluster.environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def submit(cluster: Cluster, out: Path, script: str, *options: str) -> str:
    """The job's id; what it prints goes to `out`."""
    file = out.with_suffix(".sh")
    file.write_text(f"#!/bin/bash\n{script}\n")
    return ask(
        cluster,
        "sbatch",
        "--parsable",
        f"--output={out}",
        "--open-mode=append",
        *options,
        str(file),
    )


def wait_for(what: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.1)


def states(cluster: Cluster, job: str) -> list[str]:
    """What the accounts say of a job, or of an array's tasks."""
    lines = ask(cluster, "sacct", "-X", "-n", "-j", job, "-o", "state%20").splitlines()
    return [line.split()[0] for line in lines]  # "CANCELLED by 0"


def runs(cluster: Cluster, job: str) -> bool:
    """Asked of slurmctld: the accounts are some seconds behind after one of the two was away."""
    return "RUNNING" in ask(cluster, "squeue", "-h", "-o", "%T", "--states=all", "-j", job)


def text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "slurm.dev_cluster", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )


def mentions(folder: Path) -> list[int]:
    """Processes that name the folder in their command line or environment, but for our own."""
    word, found = os.fsencode(folder), []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if word in (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid()]


@pytest.mark.slurm
def test_every_node_is_idle_and_in_both_partitions(cluster: Cluster) -> None:
    rows = ask(cluster, "sinfo", "-h", "-N", "-o", "%N %P %T %c").splitlines()
    wanted = [f"n{n} {p} idle 4" for n in range(1, NODES + 1) for p in ("gpu*", "high")]
    assert sorted(rows) == sorted(wanted)


@pytest.mark.slurm
def test_a_preempted_job_is_warned(preemption: Preemption) -> None:
    for out in (preemption.itself, preemption.waits):
        wait_for(lambda out=out: "warned" in text(out), seconds=10)  # type: ignore[misc]


@pytest.mark.slurm
def test_a_job_and_its_steps_see_the_gpus_that_they_asked_for(
    cluster: Cluster, tmp_path: Path
) -> None:
    script = """
    echo "batch $CUDA_VISIBLE_DEVICES"
    srun bash -c 'echo "step $CUDA_VISIBLE_DEVICES"'
    """
    one = submit(cluster, tmp_path / "one", script, "--gres=gpu:1")
    two = submit(cluster, tmp_path / "two", script, "--gres=gpu:2")
    wait_for(lambda: states(cluster, f"{one},{two}") == ["COMPLETED", "COMPLETED"])
    assert text(tmp_path / "one").split() in (["batch", "0", "step", "0"],
                                              ["batch", "1", "step", "1"])  # fmt: skip
    assert text(tmp_path / "two").split() == ["batch", "0,1", "step", "0,1"]
    assert "gres/gpu=2" in ask(cluster, "sacct", "-X", "-n", "-j", two, "-o", "alloctres%60")


@pytest.mark.slurm
def test_an_array_runs_every_task_on_its_own(cluster: Cluster, tmp_path: Path) -> None:
    script = 'echo "$SLURM_ARRAY_TASK_ID"; [ "$SLURM_ARRAY_TASK_ID" != 3 ]'
    job = submit(cluster, tmp_path / "out", script, "--array=0-5%3")
    wait_for(lambda: sorted(states(cluster, job)) == ["COMPLETED"] * 5 + ["FAILED"])
    assert sorted(text(tmp_path / "out").split()) == list("012345")


@pytest.mark.slurm
def test_a_step_spans_nodes_whose_names_mean_nothing(cluster: Cluster, tmp_path: Path) -> None:
    job = submit(cluster, tmp_path / "out", "srun -l printenv SLURMD_NODENAME", "--nodes=2", "-n2")
    wait_for(lambda: states(cluster, job) == ["COMPLETED"])
    names = {line.split()[1] for line in text(tmp_path / "out").splitlines()}
    assert len(names) == 2
    for name in names:
        assert f"NodeAddr={config.LOOPBACK} " in ask(cluster, "scontrol", "show", "node", name)


@pytest.mark.slurm
def test_a_second_one_from_a_boot_cut_short_to_nothing(
    cluster: Cluster, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # Not below tmp_path, which is too long a name.
    folder, system = tmp_path_factory.mktemp("two"), listing("/etc", "/run")
    where = ("--dir", str(folder))
    up = ("up", "--nodes", "1", "--max-array-size", "5000", *where)
    cut = subprocess.Popen([sys.executable, "-m", "slurm.dev_cluster", *up], cwd=ROOT)
    try:
        wait_for(lambda: (folder / "run" / "mariadbd.pid").exists())
        cut.kill()
        cut.wait()
        assert mentions(folder)
        assert command("status", *where).returncode == 1
        done = command(*up)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"export SLURM_CONF={folder}/etc/slurm.conf\n"
        again = command("up", *where)
        assert (again.returncode, again.stdout) == (0, done.stdout)
        assert "already running" in again.stderr
        refused = command("up", "--nodes", "2", *where)
        assert (refused.returncode, refused.stdout) == (3, "")
        assert "nodes=1" in refused.stderr
        status = command("status", *where)
        assert status.returncode == 0
        assert status.stdout.count("alive") == 5
        assert "idle n1" in status.stdout

        second = dev_cluster.find(folder)
        assert second is not None
        assert not set(second.ports.values()) & set(cluster.ports.values())
        assert "5000" in ask(second, "bash", "-c", "scontrol show config | grep MaxArraySize")
        stray = strays(second, tmp_path / "out")
        second.kill("slurmd", "n1", signal.SIGTERM)
        status = command("status", *where)
        assert status.returncode == 1
        assert status.stdout.count("dead") == 1
        (folder / "mine.txt").write_text("not the cluster's")
    finally:
        down = command("down", *where)
    assert down.returncode == 0, down.stderr
    assert [pid for pid in stray if daemons.start_ticks(pid)] == []
    assert mentions(folder) == []
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]
    assert listing("/etc", "/run") == system
    assert cluster.alive
    assert "no cluster" in command("down", *where).stderr


def strays(cluster: Cluster, out: Path) -> list[int]:
    """A job's children that forget where they come from, in one way or another."""
    script = "setsid sleep 321 & env -i /bin/sleep 321 & sleep 321"
    submit(cluster, out, script)

    def sleeping() -> list[int]:
        pids = daemons.pids_in(cluster.folder)
        return [pid for pid in pids if b"sleep\x00321" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    wait_for(lambda: len(sleeping()) == 3)
    return sleeping()


def listing(*folders: str) -> set[Path]:
    return {path for folder in folders for path in Path(folder).iterdir()}


@pytest.mark.slurm
def test_a_preempted_job_is_queued_again(cluster: Cluster, preemption: Preemption) -> None:
    wait_for(lambda: states(cluster, ",".join(preemption.jobs)) == ["COMPLETED"] * 3, seconds=90)
    for out in (preemption.itself, preemption.waits):
        said = [line for line in text(out).splitlines() if not line.startswith("slurmstepd")]
        # bash may have a word about its own end.
        assert [one for one in said if one != "Terminated"] == ["start ", "warned", "start 1"]
    assert "DUE TO PREEMPTION" in text(preemption.waits)


@pytest.mark.slurm
def test_the_queue_outlives_slurmctld(cluster: Cluster, tmp_path: Path) -> None:
    run = submit(cluster, tmp_path / "runs", "until [ -e $0.go ]; do sleep 0.1; done", "-w", "n1")
    held = submit(cluster, tmp_path / "held", "true", "--hold")
    wait_for(lambda: runs(cluster, run))
    # It writes its state every few seconds, and a crash loses what it has not.
    submitted, saved = time.time(), cluster.folder / "state" / "job_state"
    wait_for(lambda: saved.exists() and saved.stat().st_mtime > submitted)
    before = cluster.pid("slurmctld")
    cluster.kill("slurmctld")
    assert cluster.pid("slurmctld") is None
    assert cluster.pid("slurmdbd") is not None
    cluster.start("slurmctld")
    assert cluster.pid("slurmctld") not in (None, before)
    queue = ask(cluster, "squeue", "-h", "-o", "%i %T").splitlines()
    assert {f"{run} RUNNING", f"{held} PENDING"} <= set(queue)
    ask(cluster, "scancel", run, held)
    wait_for(lambda: {*states(cluster, run), *states(cluster, held)} <= {"CANCELLED"})


@pytest.mark.slurm
def test_one_node_and_the_accounts_may_go_and_come_back(cluster: Cluster, tmp_path: Path) -> None:
    job = submit(cluster, tmp_path / "out", "sleep 2; echo done", "--nodelist=n2")
    wait_for(lambda: runs(cluster, job))
    cluster.kill("slurmd", "n2")
    cluster.restart("slurmdbd")
    assert cluster.pid("slurmd", "n2") is None
    assert cluster.pid("slurmd", "n1") is not None
    cluster.start("slurmd", "n2")
    wait_for(lambda: states(cluster, job) == ["COMPLETED"])
    assert text(tmp_path / "out") == "done\n"


def test_what_is_missing_is_named_with_its_one_line(tmp_path: Path) -> None:
    missing = dev_cluster.missing_packages(str(tmp_path), tmp_path)
    assert missing == [
        "slurm-wlm", "slurmdbd", "munge", "mariadb-server", "slurm-wlm-mysql-plugin",
    ]  # fmt: skip
    with pytest.raises(SlurmError) as caught:
        dev_cluster.require(missing, user=1000)
    assert caught.value.exit_code == 3
    assert caught.value.help.startswith("sudo apt-get install")
    assert caught.value.help.endswith(" ".join(missing))
    for name in ("slurmdbd", "munged"):
        (tmp_path / name).touch(mode=0o755)
    plugin = tmp_path / "any" / dev_cluster.PLUGIN[0]
    plugin.parent.mkdir(parents=True)
    plugin.touch()
    assert dev_cluster.missing_packages(str(tmp_path), tmp_path) == ["slurm-wlm", "mariadb-server"]


def test_only_root_may_and_the_error_says_why() -> None:
    with pytest.raises(SlurmError, match="only root") as caught:
        dev_cluster.require([], user=1000)
    assert caught.value.help.startswith("sudo ")
    assert pickle.loads(pickle.dumps(caught.value)).help == caught.value.help
    dev_cluster.require([], user=0)


def test_the_configuration_says_what_was_asked(tmp_path: Path) -> None:
    shape = Shape(nodes=2, gpus_per_node=3, cpus_per_node=64, max_array_size=50_000)
    conf = config.slurm_conf(tmp_path, shape, PORTS, MACHINE).splitlines()
    assert "MaxArraySize=50000" in conf
    assert "MaxJobCount=100000" in conf
    assert "SlurmctldParameters=preempt_send_user_signal" in conf
    assert "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny" in conf
    assert not [line for line in conf if line.startswith("AccountingStorageEnforce")]
    (node,) = [line for line in conf if line.startswith("NodeName=n2 ")]
    for words in ("NodeAddr=127.0.0.1", "NodeHostName=here", "Port=5", "CPUs=64", "Gres=gpu:3"):
        assert words in node.split()
    assert config.gres_conf(tmp_path, shape).count("Name=gpu") == 3


def test_each_version_of_slurm_is_told_of_the_warning_in_its_own_words(tmp_path: Path) -> None:
    for version, word in (((22, 5, 8), "preempt_send"), ((23, 2), "=send_user_signal")):
        machine = Machine("here", version, loopback_name=False)
        conf = config.slurm_conf(tmp_path, Shape(nodes=2), PORTS, machine)
        assert conf.count("send_user_signal") == 1
        assert word in conf
        assert "NoInAddrAny" not in conf
        silent = Shape(nodes=2, preempt_warning=False, enforce_limits=True, gpus_per_node=0)
        conf = config.slurm_conf(tmp_path, silent, PORTS, machine)
        assert "send_user_signal" not in conf
        assert "AccountingStorageEnforce=" in conf
        assert "Gres=" not in conf


@pytest.mark.parametrize("name", ["a b", "a,b", "a#b", "x" * 100])
def test_a_folder_that_slurm_could_not_name_is_refused(name: str) -> None:
    with pytest.raises(SlurmError, match=r"cannot say|too long"):
        cluster_folder.check_name(Path("/tmp") / name)


def test_a_folder_with_others_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "mine.txt").touch()
    with pytest.raises(SlurmError, match="not empty"):
        cluster_folder.check_empty(tmp_path)
    assert dev_cluster.shut(tmp_path) is False
    assert (tmp_path / "log" / "mine.txt").exists()


def test_bad_options_are_an_error_and_a_hint() -> None:
    for words, code in ((("up", "--nodes", "0"), 2), (("status", "--dir", "/nowhere"), 3)):
        done = command(*words)
        assert done.returncode == code
        assert done.stdout == ""
        lines = done.stderr.splitlines()
        assert [line.partition(":")[0] for line in lines] == ["error", "help"]


def odd_folders(folder: Path) -> Iterator[Path]:
    yield Path("/proc/x")
    yield Path("/proc/x/y")
    yield Path("/sys/x")
    (folder / "file").touch()
    yield folder / "file"
    yield folder / "file" / "below"
    os.mkfifo(folder / "fifo")
    yield folder / "fifo"
    (folder / "loop").symlink_to(folder / "loop")
    yield folder / "loop"
    (folder / "nowhere").symlink_to("/proc/nowhere")
    yield folder / "nowhere"
    yield folder / ("x" * 300)
    for number, make in enumerate((os.mkfifo, os.mkdir)):
        odd = folder / str(number)
        odd.mkdir()
        make(odd / cluster_folder.STATE)
        yield odd


@pytest.mark.parametrize("word", ["up", "status", "down"])
def test_a_folder_that_cannot_be_used_is_told_at_once(tmp_path: Path, word: str) -> None:
    """`up --dir /proc/x` tried again and again, for ever."""
    try:
        dev_cluster.require(dev_cluster.missing_packages(), os.geteuid())
    except SlurmError as error:
        pytest.skip(f"{error.what}; {error.help}")
    folders = list(odd_folders(tmp_path))
    code = (
        "import sys; from slurm.dev_cluster import __main__ as d; from local_machine.errors "
        "import run_command\n"
        "for one in sys.argv[2:]:\n"
        "    sys.argv = ['x', sys.argv[1], '--dir', one]\n"
        "    try: run_command(d.app)\n"
        "    except SystemExit as end: print('code', end.code, one, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, word, *map(str, folders)],
        capture_output=True, text=True, cwd=ROOT, timeout=60,
    )  # fmt: skip
    lines = done.stderr.splitlines()
    assert sum(line.startswith("code") for line in lines) == len(folders)
    assert done.returncode == 0 and "bug" not in done.stderr and "Traceback" not in done.stderr
    for before, line in itertools.pairwise(lines):
        if line.startswith("code") and not line.startswith("code 0"):
            assert line[5] in "123" and before.startswith("help: ")
    assert word == "down" or not any(line.startswith("code 0") for line in lines)
