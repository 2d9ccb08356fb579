"""Programs that know nothing of sweeps, run as trials: how they end, are stopped and are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from test_kill import ROOT, kill, workers_of

from trial_records import tables

pytestmark = pytest.mark.usefixtures("forked")

# Each case is a way to end.
CASES = r"""
case=$1; out=$2; cd "$out"
row() { echo "{\"epoch\": $1, \"loss\": $2}" >> metrics.jsonl; }
case $case in
  good) row 0 0.5; row 1 0.25 ;;
  named) row 0 0.5; echo "$SWEEPS_SEED ${RANK-alone} $SWEEPS_FOLDER" > told ;;
  fails) row 0 0.5; echo "no such file: x.npy" >&2; exit 3 ;;
  memory) echo "torch.OutOfMemoryError: CUDA out of memory." >&2; exit 1 ;;
  nothing) ;;
  elsewhere) echo '{"epoch": 0, "losss": 1}' > metrics.jsonl ;;
  again) n=$(cat n 2> /dev/null || echo 0); echo $((n + 1)) > n; row $n 0.$n
         test $n -ge 4 || exit 75 ;;
  forever) echo x >> n; exit 75 ;;
  children) row 0 0.5; setsid sleep 600 & sleep 600 & echo "$!" > child ;;
  warned) kill -USR2 $$; row 0 0.5 ;;
  loud) row 0 0.5; head -c 40000000 /dev/zero | tr '\0' 'x' | fold -w 1000; echo; echo "the end" ;;
  dies) kill -9 $$ ;;
esac
"""
DEFINITION = """
from sweeps import Sweep, grid, minimize
sweep = Sweep(
    command="sh {cases} {{case}} {{folder}}", base={{"case": "good", "seed": 3}},
    space=grid({{"case": {names}}}), metrics="metrics.jsonl", objective=minimize("loss"),
)
"""
NAMES = [line.split(")")[0].strip() for line in CASES.splitlines()[4:-1] if ") " in line[:14]]


def launch(
    definition: Path, *more: str, stderr: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    words = ("--results", str(definition.parent / "results"), "--on", "local", *more)
    return subprocess.Popen(
        [sys.executable, "-m", "sweeps.launch", str(definition), *words], cwd=ROOT,
        stdout=subprocess.DEVNULL, stderr=stderr, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def wait_until(happened: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a sweep over all ways to end."""
    folder = tmp_path_factory.mktemp("cases")
    (folder / "cases.sh").write_text(CASES)
    definition = folder / "ways.py"
    definition.write_text(DEFINITION.format(cases=folder / "cases.sh", names=NAMES))
    assert launch(definition, "--workers", "2").wait(100) == 1
    return folder / "results/ways"


def trial(ended: Path, name: str) -> Path:
    (found,) = ended.glob(f"case{name}-*")
    return found


@pytest.mark.long
@pytest.mark.parametrize("name", ["good", "named", "again", "children", "warned", "loud"])
def test_exit_0_with_metrics_is_done(ended: Path, name: str) -> None:
    folder = trial(ended, name)
    rows = tables.read_epochs(folder).to_pylist()
    assert [row["epoch"] for row in rows] == list(range(len(rows)))
    assert len(rows) == {"good": 2, "again": 5}.get(name, 1)
    run = pq.read_table(folder / "run.parquet").to_pylist()[0]
    assert run["status"] == "done"
    assert run["attempts"].count("token") == 1
    assert run["objective"] == min(row["loss"] for row in rows)
    assert run["task"].endswith("cases.sh {case} {folder}")
    assert not list(folder.glob("attempt-*")) + list(folder.glob(".running-*"))


def test_what_a_program_is_told(ended: Path) -> None:
    files = trial(ended, "named") / "files"
    # Not RANK: a program that finds it believes that it was started by torchrun.
    assert (files / "told").read_text().split() == ["3", "alone", str(files)]


def test_what_a_program_leaves_behind_is_killed(ended: Path) -> None:
    assert is_gone(int((trial(ended, "children") / "files/child").read_text()))
    left = subprocess.run(["pgrep", "-fx", "sleep 600"], capture_output=True, check=False).stdout
    mine = str(trial(ended, "children"))
    for pid in left.split():
        environ = Path(f"/proc/{int(pid)}/environ")
        assert mine not in (environ.read_text() if environ.exists() else "")
    assert "killed 2 processes that the program left behind" in logs(ended)


def logs(ended: Path) -> str:
    return "".join(path.read_text() for path in (ended / "logs").glob("*.log"))


def test_a_log_stays_bounded(ended: Path) -> None:
    assert sum(path.stat().st_size for path in (ended / "logs").glob("*.log")) < 36e6
    said = logs(ended)
    assert "MiB of its output are left out; it ends:]" in said
    assert "\nthe end\n" in said


@pytest.mark.parametrize(
    ("name", "cause", "said"),
    [
        ("fails", "ERROR", "ended with exit code 3: no such file: x.npy"),
        ("memory", "OUT_OF_MEMORY", "ended with exit code 1: torch.OutOfMemoryError"),
        ("nothing", "ERROR", "exit code 0, and nothing was read of its metrics: "),
        ("elsewhere", "ERROR", "no row of its metrics has 'loss'"),
        ("forever", "ERROR", "the program ended 3 times with exit code 75"),
        ("dies", "ERROR", "the program was killed by SIGKILL 3 times"),
    ],
)
def test_all_else_failed_with_its_reason(ended: Path, name: str, cause: str, said: str) -> None:
    failure = json.loads((trial(ended, name) / "failure.json").read_text())
    assert failure["cause"] == cause
    assert said in failure["exception"]
    assert "Traceback" not in failure["exception"]
    if name == "fails":
        assert failure["log_tail"][-1] == "no such file: x.npy"
        assert "python -m sweeps.logs ways TRIAL --results " in failure["traceback"]


def test_a_metrics_file_that_never_appeared_is_named(ended: Path) -> None:
    failure = json.loads((trial(ended, "nothing") / "failure.json").read_text())
    assert f"{trial(ended, 'nothing')}/files/metrics.jsonl never appeared" in failure["exception"]


TRAIN = """
import json, os, signal, sys, time
out, how = sys.argv[1:]
path = f"{out}/state"
first = epoch = int(open(path).read()) if os.path.exists(path) else 0
stop = []
if how == "saves":
    signal.signal(signal.SIGUSR1, lambda *_: stop.append(1))
elif how == "ignores":
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(f"{out}/begun", "a").write(f"{epoch}\\n")
child = os.spawnvp(os.P_NOWAIT, "sleep", ["sleep", "601"])
open(f"{out}/pids", "a").write(f"{os.getpid()} {child}\\n")
while epoch < 30:
    time.sleep(1 if how == "ignores" and first < 4 and epoch > 4 else 0.05)
    with open(f"{out}/metrics.csv", "a") as file:
        file.write("epoch,loss\\n" * (epoch == 0) + f"{epoch},{1 / (epoch + 1)}\\n")
    epoch += 1
    open(path + ".new", "w").write(str(epoch))
    os.replace(path + ".new", path)
    if stop:
        sys.exit(75)
os.kill(child, 9)
"""
STOPPED = """
from sweeps import Sweep, grid, minimize
sweep = Sweep(
    command="python {train} {{folder}} {{how}}", space=grid({{"how": {hows}}}),
    metrics="metrics.csv", objective=minimize("loss"), stop_signal="USR1", grace=1,
)
"""


def defined(folder: Path, *hows: str) -> Path:
    (folder / "train.py").write_text(TRAIN)
    definition = folder / "stops.py"
    definition.write_text(STOPPED.format(train=folder / "train.py", hows=list(hows)))
    return definition


def files(folder: Path, how: str) -> Path:
    return next((folder / "results/stops").glob(f"how{how}-*/files"), Path("nowhere"))


def epochs(folder: Path, how: str) -> int:
    path = files(folder, how) / "state"
    return int(path.read_text()) if path.exists() else -1


def pids(folder: Path, how: str) -> list[int]:
    return [int(word) for word in (files(folder, how) / "pids").read_text().split()]


def assert_all_epochs(folder: Path, how: str) -> None:
    rows = tables.read_epochs(files(folder, how).parent).to_pylist()
    assert [(row["epoch"], row["loss"]) for row in rows] == [(n, 1 / (n + 1)) for n in range(30)]


@pytest.mark.long
@pytest.mark.parametrize("how", ["saves", "dies", "ignores"])
def test_a_stopped_program_goes_on(tmp_path: Path, how: str) -> None:
    definition = defined(tmp_path, how)
    first = launch(definition, "--workers", "1")
    wait_until(lambda: epochs(tmp_path, how) > 3)
    first.send_signal(signal.SIGINT)
    assert first.wait(60) == 130
    assert all(is_gone(pid) for pid in pids(tmp_path, how))
    said = logs(tmp_path / "results/stops")
    assert "asking the program to stop: SIGUSR1" in said
    assert ("sending SIGKILL" in said) == (how == "ignores")
    assert launch(definition, "--workers", "1").wait(60) == 0
    begun = [int(x) for x in (files(tmp_path, how) / "begun").read_text().split()]
    assert len(begun) == 2 and begun[1] > 3
    assert_all_epochs(tmp_path, how)


def test_metrics_in_the_working_directory_are_told_of(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    definition = tmp_path / "beside.py"
    definition.write_text(
        "from sweeps import Sweep, grid, minimize\n"
        "sweep = Sweep(command=['sh', '-c', 'echo epoch,loss > metrics.csv; echo 0,{x} >> '\n"
        f"    'metrics.csv'], directory={str(place)!r}, space=grid({{'x': [1]}}),\n"
        "    metrics='metrics.csv', objective=minimize('loss'))\n"
    )
    assert launch(definition, "--workers", "1").wait(60) == 1
    (path,) = tmp_path.glob("results/beside/*/failure.json")
    assert "metrics.csv is in the folder in which the program works" in path.read_text()


def test_interrupted_twice_it_says_what_it_waits_for_and_leaves(tmp_path: Path) -> None:
    definition = defined(tmp_path, "ignores")
    first = launch(definition, "--workers", "1", stderr=subprocess.PIPE)
    wait_until(lambda: epochs(tmp_path, "ignores") > 3)
    first.send_signal(signal.SIGINT)
    assert first.stderr is not None
    waits = next((line for line in first.stderr if b"waiting up to" in line), b"")
    assert b"a worker has stopped its trial; Ctrl-C ends this command at once" in waits
    assert not all(is_gone(pid) for pid in pids(tmp_path, "ignores"))
    first.send_signal(signal.SIGINT)
    assert first.wait(5) == 130
    wait_until(lambda: all(is_gone(pid) for pid in pids(tmp_path, "ignores")))


def test_killed_with_its_worker_it_goes_on(tmp_path: Path) -> None:
    definition = defined(tmp_path, "saves", "dies")
    first = launch(definition, "--workers", "2")
    for after in (2, 8, 14):
        wait_until(  # type: ignore[misc]
            lambda after=after: min(epochs(tmp_path, how) for how in ("saves", "dies")) > after
        )
        before = pids(tmp_path, "saves") + pids(tmp_path, "dies")
        for worker in workers_of(first.pid):
            kill(worker)
        wait_until(lambda before=before: all(map(is_gone, before)), 10)  # type: ignore[misc]
    assert first.wait(60) == 0
    for how in ("saves", "dies"):
        assert_all_epochs(tmp_path, how)
        assert len((files(tmp_path, how) / "begun").read_text().split()) == 4


def test_a_program_whose_keeper_is_killed_too_is_killed_by_who_comes_next(tmp_path: Path) -> None:
    """What the kernel's own killing of a whole group of processes may leave."""
    definition = defined(tmp_path, "saves")
    first = launch(definition, "--workers", "1")
    wait_until(lambda: epochs(tmp_path, "saves") > 3)
    first.send_signal(signal.SIGSTOP)
    (worker,) = workers_of(first.pid)
    (program, child) = pids(tmp_path, "saves")
    keeper = int(Path(f"/proc/{program}/stat").read_text().rpartition(")")[2].split()[1])
    for pid in (worker, keeper):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: is_gone(program))
    assert not is_gone(child)  # it lost its parent, and knows of nothing
    first.send_signal(signal.SIGCONT)
    assert first.wait(60) == 0
    assert is_gone(child)
    assert_all_epochs(tmp_path, "saves")


def test_a_search_prunes_a_command(tmp_path: Path) -> None:
    (tmp_path / "walk.py").write_text(
        """
import json, sys, time
lr, out = float(sys.argv[1]), sys.argv[2]
for epoch in range(12):
    with open(f"{out}/m.jsonl", "a") as file:
        file.write(json.dumps({"epoch": epoch, "loss": abs(lr - 0.1) + 1 / (epoch + 1)}) + "\\n")
    time.sleep(0.25 if lr > 0.2 and epoch > 3 else 0.01)
"""
    )
    definition = tmp_path / "walks.py"
    definition.write_text(
        f"""
from sweeps import Search, choice, minimize
search = Search(
    command="python {tmp_path}/walk.py {{lr}} {{folder}} {{epochs}}",
    base={{"lr": 0.1, "epochs": 12, "seed": 0}},
    space={{"lr": choice([0.1, 0.12, 0.9])}}, sampler="grid", trials=3, pruner="successive_halving",
    start=[{{"lr": 0.1}}, {{"lr": 0.12}}, {{"lr": 0.9}}],
    metrics="m.jsonl", objective=minimize("loss"),
)
"""
    )
    done = subprocess.run(
        [sys.executable, "-m", "sweeps.search", str(definition), "--results",
         str(tmp_path / "results"), "--on", "local", "--workers", "1", "--json"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    assert said["best"]["params"] == {"lr": 0.1}, said
    assert said["counts"] == {"complete": 2, "pruned": 1}
