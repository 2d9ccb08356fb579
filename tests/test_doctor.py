"""The doctor: on real filesystems, on Slurm's recorded words, and on a real Slurm with its job."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from local_machine.errors import SlurmError
from slurm.dev_cluster import cluster as dev_cluster
from slurm.dev_cluster.cluster import Cluster
from slurm.queue import Queue
from slurm.site import Site
from sweeps.doctor import __main__ as doctor
from sweeps.doctor import filesystem, node_probe, slurm_limits
from sweeps.doctor.check import Check, State, failure
from sweeps.doctor.slurm_limits import ASSOCIATION, QUALITY, Limits, parse_partitions, parse_table

ROOT = Path(__file__).parent.parent

# As 22.05.8 printed them, less what nothing here reads.
CONFIG = """\
Configuration data as of 2026-11-24T04:32:00
AccountingStorageEnforce = {enforce}
AccountingStorageType   = {storage}
ClusterName             = dev
JobRequeue              = 1
MaxArraySize            = 1001
MaxJobCount             = 20000
MinJobAge               = {age} sec
PreemptMode             = REQUEUE
PreemptParameters       = (null)
PreemptType             = preempt/partition_prio
SlurmctldParameters     = preempt_send_user_signal
SLURM_VERSION           = 22.05.8

Slurmctld(primary) at vm is UP
"""
PARTITIONS = """\
PartitionName=gpu AllowGroups=ALL AllowAccounts=ALL Default=YES QoS=N/A GraceTime=20 Hidden=NO \
MaxNodes=UNLIMITED MaxTime=1-00:00:00 PriorityTier=1 PreemptMode=REQUEUE State=UP TotalNodes=4
PartitionName=high AllowGroups=ALL AllowAccounts=ALL Default=NO QoS=N/A GraceTime=0 Hidden=NO \
MaxNodes=UNLIMITED MaxTime=UNLIMITED PriorityTier=10 PreemptMode=OFF State=UP TotalNodes=4
PartitionName=old AllowGroups=ALL Default=NO QoS=short GraceTime=0 Hidden=NO \
MaxTime=00:30:00 PriorityTier=1 PreemptMode=REQUEUE State=DRAIN TotalNodes=1
"""
ASSOCIATIONS = """\
root|dev|dev||normal,short|short|5|40|
root|dev|root||normal||||
root|other|root||normal|||3|
"""
QUALITIES = """\
normal||||00:00:00|cluster
short||20|02:00:00|00:01:00|requeue
"""
STORED = "accounting_storage/slurmdbd"


def made(
    *,
    enforce: str = "associations,limits,qos",
    storage: str = STORED,
    associations: str = ASSOCIATIONS,
    **changed: str,
) -> Limits:
    """Limits as `read` makes them of the recorded words."""
    text = CONFIG.format(enforce=enforce, storage=storage, age=60)
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    config = {key.strip(): value.strip() for key, _, value in pairs} | changed
    rows = [row for row in parse_table(ASSOCIATION, associations) if row["Cluster"] == "dev"]
    told = {row["Name"]: row for row in parse_table(QUALITY, QUALITIES)}
    return Limits(config, parse_partitions(PARTITIONS), rows, told)


def by_name(checks: Iterator[Check]) -> dict[str, Check]:
    found = {}
    for check in checks:
        assert check.name not in found, "two of one name"
        assert check.found, check
        assert bool(check.todo) == (check.state is not State.OK), check
        found[check.name] = check
    return found


# The results folder's filesystem.


def test_a_good_filesystem_is_ok_and_left_as_it_was(tmp_path: Path) -> None:
    for name in ("target", "part", "linked", "exclusive", "token.json"):
        (tmp_path / name).write_text(name)
    found = by_name(filesystem.checks(tmp_path, shared=False))
    assert {one.state for name, one in found.items() if name not in ("space", "inodes")} == {
        State.OK
    }
    assert {"rename", "hard link", "exclusive create", "fsync", "flock", "filesystem"} <= set(found)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "exclusive", "linked", "part", "target", "token.json",
    ]  # fmt: skip
    assert all(path.read_text() == path.name for path in tmp_path.iterdir())


def test_a_folder_that_is_still_to_be_made_is_not_made(tmp_path: Path) -> None:
    found = by_name(filesystem.checks(tmp_path / "a" / "b", shared=False))
    assert found["write"].state is State.OK
    assert str(tmp_path) in found["write"].found
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_folders_place_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("mine")
    found = by_name(filesystem.checks(tmp_path / "results", shared=False))
    assert found["write"].state is State.FAILURE
    assert (tmp_path / "results").read_text() == "mine"


@contextlib.contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    try:
        subprocess.run(words, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system may be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_read_only_filesystem_is_a_failure(tmp_path: Path) -> None:
    with mounted(tmp_path / "ro", "ro") as folder:
        found = by_name(filesystem.checks(folder, shared=False))
    assert list(found) == ["write"]
    assert found["write"].state is State.FAILURE
    assert "Read-only" in found["write"].found


def test_a_small_filesystem_says_how_small(tmp_path: Path) -> None:
    with mounted(tmp_path / "small", "size=4m,nr_inodes=50") as folder:
        found = by_name(filesystem.checks(folder, shared=True))
        assert not list(folder.iterdir())
    assert found["space"].state is State.FAILURE
    assert found["inodes"].state is State.FAILURE
    assert found["filesystem"].state is State.WARNING
    assert "tmpfs" in found["filesystem"].found
    assert found["rename"].state is State.OK


def test_a_full_filesystem_is_failures_and_no_traceback(tmp_path: Path) -> None:
    with mounted(tmp_path / "full", "size=64k") as folder:
        with contextlib.suppress(OSError):
            (folder / "filler").write_bytes(b"0" * 2**17)
        found = by_name(filesystem.checks(folder, shared=False))
        assert [path.name for path in folder.iterdir()] == ["filler"]
    assert "No space" in found["fsync"].found
    assert found["fsync"].state is State.FAILURE


def test_scratch_is_gone_also_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), filesystem.scratch(tmp_path) as path:
        (path / "full").mkdir()
        assert path.stat().st_mode & 0o077 == 0
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


MOUNTS = r"""
/dev/vda / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
tmpfs /home/me/my\040files tmpfs rw 0 0
lustre /scratch xfs rw 0 0
lustre /scratch lustre rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "point", "name", "local"),
    [
        ("/results", "/", "ext4", True),
        ("/home/me", "/home", "nfs4", False),
        ("/homes", "/", "ext4", True),
        ("/home/me/my files/a", "/home/me/my files", "tmpfs", True),
        ("/scratch/me", "/scratch", "lustre", False),
    ],
)
def test_the_mount_that_holds_a_folder(
    tmp_path: Path, folder: str, point: str, name: str, local: bool
) -> None:
    assert filesystem.mount(Path(folder), MOUNTS) == (point, name)
    table = tmp_path / "mounts"
    table.write_text(MOUNTS)
    shared = filesystem.kind(Path(folder), shared=True, mounts=table)
    assert shared.state is (State.WARNING if local else State.OK)
    assert filesystem.kind(Path(folder), shared=False, mounts=table).state is State.OK
    assert filesystem.kind(Path(folder), shared=True, mounts=tmp_path / "no").state is State.OK


def test_a_machine_that_shows_no_mounts() -> None:
    with pytest.raises(LookupError):
        filesystem.mount(Path("/results"), "proc /proc proc rw 0 0\n")


def command(folder: Path, name: str, script: str) -> None:
    """A small executable on what will be the PATH."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert filesystem.quota() is None
    command(tmp_path, "quota", "echo '/home  48G*  40G  50G'; exit 1")
    found = filesystem.quota()
    assert found is not None and found.state is State.WARNING
    assert found.found == "/home 48G* 40G 50G"
    command(tmp_path, "quota", "echo '/home 1G 40G 50G'")
    found = filesystem.quota()
    assert found is not None and found.state is State.OK


# What Slurm allows.


def test_arrays() -> None:
    assert made().array(Site(max_array_size=1001)).state is State.OK
    over = made().array(Site(max_array_size=1002))
    assert over.state is State.FAILURE and "max_array_size = 1001" in over.todo
    assert made(MaxArraySize="0").array(Site(max_array_size=1)).state is State.OK
    assert made(MaxArraySize="0").array(Site(max_array_size=2)).state is State.FAILURE


def test_submit_limits_are_the_tightest_of_those_that_count() -> None:
    dev = Site(account="dev", max_submit=20)
    assert made().submits(dev).state is State.OK
    over = made().submits(replace(dev, max_submit=21))
    assert over.state is State.FAILURE and "max_submit = 20 " in over.todo
    assert "5 run at once (account dev)" in over.found
    # With another quality of service, the account's own limit is left.
    normal = made().submits(replace(dev, qos="normal", max_submit=41))
    assert "max_submit = 40 " in normal.todo
    # The default account has none; nor does a limit count that nobody enforces, nor one of another
    # cluster.
    assert made().submits(Site()).state is State.OK
    free = made(enforce="none").submits(replace(dev, max_submit=1000))
    assert free.state is State.OK and "20000" in free.found
    assert made(enforce="none").submits(replace(dev, max_submit=20_001)).state is State.FAILURE


def test_what_sacctmgr_does_not_tell_is_a_warning() -> None:
    unknown = replace(made(associations=""), unknown="sacctmgr cannot be run")
    assert unknown.submits(Site()).state is State.WARNING
    assert not list(unknown.account(Site()))


def test_accounts() -> None:
    assert by_name(made().account(Site()))["account"].state is State.OK
    wrong = by_name(made().account(Site(account="nope")))["account"]
    assert wrong.state is State.FAILURE and "dev, root" in wrong.todo
    assert by_name(made(associations="").account(Site()))["account"].state is State.FAILURE
    free = made(enforce="none", associations="")
    assert by_name(free.account(Site()))["account"].state is State.OK
    qos = by_name(made().account(Site(account="dev", qos="shorf")))["qos"]
    assert qos.state is State.FAILURE and "'short'" in qos.todo
    assert "qos" not in by_name(made().account(Site(account="dev", qos="short")))


def test_partitions() -> None:
    assert made().chosen(Site()) == ["gpu"]
    assert made().partition(Site(minutes=1440), "gpu").state is State.OK
    long = made().partition(Site(minutes=1441), "gpu")
    assert long.state is State.FAILURE and "minutes = 1440 " in long.todo
    assert made().partition(Site(minutes=10_000), "high").state is State.OK
    assert made().partition(Site(minutes=10), "old").state is State.FAILURE  # it is drained
    # The account's default quality of service allows two hours.
    assert "minutes = 120 " in made().partition(Site(account="dev", minutes=121), "gpu").todo
    wrong = made().partition(Site(), "gqu")
    assert wrong.state is State.FAILURE and "'gpu'" in wrong.todo
    none = replace(made(), partitions=parse_partitions(PARTITIONS.replace("=YES", "=NO")))
    assert none.chosen(Site()) == [""]
    assert "no default partition" in none.partition(Site(), "").found


@pytest.mark.parametrize(
    ("changed", "partition", "state", "words"),
    [
        ({}, "gpu", State.OK, "SIGUSR2 and SIGTERM, and requeued after 20 s"),
        ({}, "high", State.OK, "not preempted"),
        ({}, "old", State.WARNING, "without grace"),
        ({"SlurmctldParameters": ""}, "gpu", State.OK, "SIGTERM alone"),
        (
            {"SlurmctldParameters": "", "PreemptParameters": "min_exempt,send_user_signal"},
            "gpu", State.OK, "SIGUSR2",
        ),
        ({"PreemptType": "preempt/none"}, "gpu", State.OK, "preempts no job"),
        ({"PreemptType": "preempt/qos"}, "high", State.OK, "requeued after 60 s"),
    ],
)  # fmt: skip
def test_preemption(changed: dict[str, str], partition: str, state: State, words: str) -> None:
    found = made(**changed).preemption(Site(account="dev", partition=partition), partition)
    assert found.state is state and words in found.found


@pytest.mark.parametrize(("mode", "state"), [("CANCEL", State.WARNING), ("GANG,SUSPEND", State.OK)])
def test_preemption_modes(mode: str, state: State) -> None:
    one = parse_partitions(PARTITIONS.replace("PreemptMode=REQUEUE", f"PreemptMode={mode}"))
    assert replace(made(), partitions=one).preemption(Site(), "gpu").state is state


def test_words_that_are_no_table() -> None:
    with pytest.raises(SlurmError, match="not an answer"):
        parse_table(QUALITY, "welcome to the cluster\n")
    assert parse_partitions("welcome to the cluster\n") == {}


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on PATH with commands that say what Slurm said."""
    folder = tmp_path / "bin"
    says(folder, enforce="associations,limits,qos", storage=STORED, age=60)
    command(folder, "sacctmgr", f"case \"$*\" in *qos*) cat <<'X'\n{QUALITIES}X\n;;"
            f" esac\ncase \"$*\" in *user*) cat <<'X'\n{ASSOCIATIONS}X\n;; esac")  # fmt: skip
    command(folder, "squeue", 'case "$*" in *--jobs*) echo Invalid job id >&2; exit 1;; esac')
    command(folder, "sacct", "")
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def says(folder: Path, **words: Any) -> None:
    command(folder, "scontrol", f"case \"$*\" in *config*) cat <<'X'\n{CONFIG.format(**words)}X\n"
            f";;\n*partition*) cat <<'X'\n{PARTITIONS}X\n;; esac")  # fmt: skip


def test_limits_are_read_from_the_commands(fakes: Path) -> None:
    read = Limits.read()
    assert read.partitions == made().partitions
    assert read.associations == made().associations
    assert read.qualities == made().qualities
    found = by_name(read.checks(Site(max_array_size=5000, partition="gpu,high")))
    assert {"slurm", "array size", "submit limits", "partition gpu", "preemption high",
            "requeue"} <= set(found)  # fmt: skip
    assert [name for name, one in found.items() if one.state is State.FAILURE] == ["array size"]
    assert read.accounting().state is State.OK


def test_without_a_database(fakes: Path) -> None:
    command(fakes, "sacct", "echo Slurm accounting storage is disabled >&2; exit 1")
    says(fakes, enforce="none", storage="accounting_storage/none", age=10)
    read = Limits.read()
    assert not read.unknown and not read.qualities
    assert by_name(read.checks(Site()))["submit limits"].state is State.OK
    found = read.accounting()
    assert found.state is State.WARNING
    assert "cannot be known" in found.found and "MinJobAge raised" in found.todo


def test_a_database_that_is_away(fakes: Path) -> None:
    command(fakes, "sacctmgr", "echo Connection refused >&2; exit 1")
    read = Limits.read()
    assert "Connection refused" in read.unknown
    assert by_name(read.checks(Site()))["submit limits"].state is State.WARNING
    command(fakes, "squeue", "echo no controller >&2; exit 1")
    assert read.accounting().state is State.FAILURE


def test_no_sacctmgr(fakes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (fakes / "sacctmgr").unlink()
    (fakes / "cat").symlink_to("/bin/cat")
    monkeypatch.setenv("PATH", str(fakes))
    assert "sacctmgr" in Limits.read().unknown


def test_a_command_that_hangs(fakes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(fakes, "sacctmgr", "exec sleep 60")
    monkeypatch.setattr(slurm_limits, "SECONDS", 0.5)
    assert "no answer" in Limits.read().unknown


# What the job answers.

ANSWER = {
    "heard": "secret", "host": "gpu17", "node": "gpu17", "address": "10.0.0.17", "torch": "",
    "python": "", "executable": "/usr/bin/python", "gpus": ["NVIDIA A100"], "visible": "0",
    "cuda": ["NVIDIA A100"], "time": 1000.0,
}  # fmt: skip


def told(**changed: Any) -> dict[str, Check]:
    here = {
        "torch": node_probe.metadata.version("torch"),
        "python": node_probe.platform.python_version(),
    }
    return by_name(node_probe.told(ANSWER | here | changed, Site(), "secret", 1000.5))


def test_a_good_answer() -> None:
    found = told()
    assert {one.state for one in found.values()} == {State.OK}
    assert "NVIDIA A100" in found["GPUs there"].found
    assert "-0.5 s" in found["clock there"].found


@pytest.mark.parametrize(
    ("changed", "name", "state"),
    [
        ({"heard": None}, "results there", State.FAILURE),
        ({"heard": "another"}, "results there", State.FAILURE),
        ({"cuda": []}, "GPUs there", State.FAILURE),
        ({"cuda": [], "gpus": []}, "GPUs there", State.WARNING),
        ({"python": "3.1.0"}, "Python there", State.WARNING),
        ({"torch": None, "problem": "ImportError"}, "torch there", State.FAILURE),
        ({"torch": "1.0"}, "torch there", State.WARNING),
        ({"address": ""}, "node names", State.WARNING),
        ({"time": 1010.0}, "clock there", State.WARNING),
        ({"time": 990.0}, "clock there", State.WARNING),
    ],
)
def test_an_answer_with_one_thing_wrong(changed: dict[str, Any], name: str, state: State) -> None:
    found = told(**changed)
    assert [one.name for one in found.values() if one.state is not State.OK] == [name]
    assert found[name].state is state


def test_a_job_that_slurm_refuses(fakes: Path, tmp_path: Path) -> None:
    command(fakes, "srun", "")
    command(fakes, "sbatch", "echo 'sbatch: error: Batch job submission failed: No' >&2; exit 1")
    found = by_name(node_probe.run(Site(), tmp_path, seconds=5))["test job"]
    assert found.state is State.FAILURE
    assert found.found == "Slurm refused the jobs: No"


def test_an_interruption_in_the_moment_of_sending_ends_the_job(
    fakes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(fakes, "srun", "")
    command(fakes, "sbatch", "echo Submitted batch job 7")
    ended: list[str] = []
    monkeypatch.setattr(node_probe, "_end", lambda _, number: ended.append(number))

    def interrupted(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(node_probe.run(Site(), tmp_path, seconds=5, say=interrupted))
    assert ended == ["7"]


# The command.


def run(*words: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "sweeps.doctor", *words], cwd=ROOT, capture_output=True, text=True,
        env=os.environ | environment, timeout=300,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def parsed(done: subprocess.CompletedProcess[str]) -> dict[str, Check]:
    value = json.loads(done.stdout)
    assert value["schema_version"] == 1
    return by_name(Check(**one | {"state": State(one["state"])}) for one in value["checks"])


@pytest.mark.long
def test_a_machine_without_slurm(tmp_path: Path) -> None:
    cache = str(tmp_path / "cache")
    done = run("--json", "--results", str(tmp_path / "results"), SWEEPS_CACHE=cache)
    found = parsed(done)
    assert {"slurm", "GPUs", "torch", "bf16", "write", "rename", "data cache"} <= set(found)
    assert found["torch"].found.startswith(node_probe.metadata.version("torch"))
    assert cache in found["data cache"].found
    assert "0 failure" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_failure_ends_with_1_and_errors_with_2(tmp_path: Path, fakes: Path) -> None:
    """Slurm does not answer, and the data cache is a file."""
    command(fakes, "scontrol", "echo 'slurm_load_ctl_conf error: Unable to contact' >&2; exit 1")
    command(fakes, "sbatch", "echo sent >&2; exit 1")
    (tmp_path / "cache").write_text("")
    words = ("--results", str(tmp_path))
    done = run(*words, check=False, SLURM_CONF="/no", SWEEPS_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 1
    bad = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("failure")]
    assert bad == ["slurm", "data"]
    assert "Unable to contact" in done.stdout and "test job" not in done.stdout
    unknown = run("--site", "dev_clutser", check=False)
    assert unknown.returncode == 2 and "dev_cluster" in unknown.stderr and not unknown.stdout


def test_lines_pass_on_nothing_that_a_terminal_obeys() -> None:
    shown = doctor.line(failure("slurm", "a\x1b[2Jb\nc", "d"))
    assert shown == "failure  slurm            a?[2Jb?c; to do: d"


def test_bf16_is_read_from_the_processor(tmp_path: Path) -> None:
    (tmp_path / "new").write_text("flags : avx2 avx512_bf16 amx_bf16\n")
    (tmp_path / "old").write_text("flags : avx2\n")
    assert "amx_bf16, avx512_bf16" in doctor.bf16(tmp_path / "new")
    assert "fp32" in doctor.bf16(tmp_path / "old")
    assert "fp32" in doctor.bf16(tmp_path / "none")


# On a real Slurm.


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    try:
        dev_cluster.require(dev_cluster.missing_packages(), os.geteuid())
    except SlurmError as error:
        pytest.skip(f"{error.what}; {error.help}")
    with dev_cluster.running(tmp_path_factory.mktemp("doctor")) as one:
        yield one


@pytest.mark.slurm
def test_the_whole_command_on_a_cluster(cluster: Cluster, tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    words = ("--site", "dev_cluster", "--results", str(results))
    done = run(*words, "--json", **cluster.environment)
    found = parsed(done)
    job = found["test job"]
    assert job.state is State.OK and "(node n" in job.found
    assert found["results there"].state is State.OK
    assert "CUDA_VISIBLE_DEVICES=" in found["GPUs there"].found
    assert found["torch there"].found.startswith(node_probe.metadata.version("torch"))
    assert found["Python there"].state is State.OK
    assert found["node names"].state is State.WARNING  # they resolve to nothing on this cluster
    assert found["clock there"].state is State.OK
    assert found["preemption gpu"].found.endswith("SIGUSR2 and SIGTERM, and requeued after 20 s")
    assert found["accounting"].state is State.OK
    assert not list(results.iterdir())
    assert not cluster.command("squeue", "-h").strip()
    without = run(*words, "--no-job", **cluster.environment).stdout
    assert "preemption gpu" in without and "test job" not in without


@pytest.mark.slurm
def test_jobs_that_do_not_answer(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(node_probe, "LATE_SECONDS", 1)
    site = Site(partition="gpu", cpus_per_gpu=1, mem_gb_per_gpu=1)
    with filesystem.scratch(tmp_path) as folder:
        later = replace(site, slurm={"begin": "now+1hour"})
        waits = by_name(node_probe.run(later, folder, seconds=2))["test job"]
    assert waits.state is State.WARNING and "BeginTime" in waits.found
    with filesystem.scratch(tmp_path) as folder:
        broken = replace(site, setup=("echo no such module; exit 3",))
        fails = by_name(node_probe.run(broken, folder, seconds=60))["test job"]
    assert fails.state is State.FAILURE
    assert "no such module" in fails.found and "FAILED" in fails.found
    deadline = time.monotonic() + 20
    while any(job.state.is_alive for job in Queue().mine()):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert not list(tmp_path.iterdir())


@pytest.mark.slurm
def test_ctrl_c_leaves_no_job_and_no_file(cluster: Cluster, tmp_path: Path) -> None:
    site = tmp_path / "later.toml"
    site.write_text('partition = "gpu"\n[slurm]\nbegin = "now+1hour"\n')
    process = subprocess.Popen(
        [sys.executable, "-m", "sweeps.doctor", "--site", str(site), "--results", str(tmp_path)],
        cwd=ROOT, env=os.environ | cluster.environment, stderr=subprocess.PIPE, text=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stderr is not None
    assert "sent test job" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert "Traceback" not in process.stderr.read()
    assert not cluster.command("squeue", "-h").strip()
    assert [path.name for path in tmp_path.iterdir()] == ["later.toml"]
