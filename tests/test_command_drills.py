"""Programs that know nothing of Slurm, on a real one: ranks, warnings, preemption, kills."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from drill import SITE, Drill, running, wait_for
from test_command_sweep import is_gone

from slurm.dev_cluster.cluster import Cluster
from sweeps.state.trial_store import State
from trial_records import tables

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(400)]

EPOCHS = 8
# As people write it: torchrun's variables, DDP over gloo, a checkpoint that rank 0 writes. Where
# STOPPED names a file, it waits for it in the middle of its first attempt.
DDP = f"""
import argparse, json, os, signal, sys, time
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel as DDP

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--out")
args = parser.parse_args()
stop = torch.zeros(1)
signal.signal(signal.SIGUSR1, lambda *_: stop.fill_(1))
dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
assert "SLURM_NTASKS" not in os.environ
torch.manual_seed(0)
model = DDP(torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=0.9)
path, begin = args.out + "/model.pt", 0
if os.path.exists(path):
    state = torch.load(path)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    begin = state["epoch"]
x = torch.randn(64, 4, generator=torch.Generator().manual_seed(rank))
with open(f"{{args.out}}/begun-{{rank}}", "a") as file:
    file.write(f"{{begin}} {{os.getpid()}} {{world}}\\n")
for epoch in range(begin, {EPOCHS}):
    if epoch == 3 and begin == 0:
        open(f"{{args.out}}/waits-{{rank}}", "w")
        while not (os.path.exists(args.out + "/go") or stop.item()):
            time.sleep(0.05)
    loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
    optimizer.zero_grad(); loss.backward(); optimizer.step()
    total = loss.detach().clone()
    dist.all_reduce(total)
    if rank == 0:
        with open(args.out + "/metrics.jsonl", "a") as file:
            file.write(json.dumps({{"epoch": epoch, "loss": total.item() / world}}) + "\\n")
        torch.save({{"epoch": epoch + 1, "model": model.state_dict(),
                    "optimizer": optimizer.state_dict()}}, path + ".new")
        os.replace(path + ".new", path)
    asked = stop.clone()
    dist.all_reduce(asked)
    if asked.item():
        sys.exit(75)
"""
DEFINITION = """
from sweeps import Sweep, grid, minimize
from slurm.site import Resources
sweep = Sweep(
    command="COMMAND {script} --lr {{lr}} --out {{folder}}", space=grid({{"lr": [0.01]}}),
    metrics="metrics.jsonl", objective=minimize("loss"), stop_signal="USR1", grace=5,
    resources=Resources(nodes={nodes}, gpus_per_node={gpus}), processes="{processes}",
)
"""
ROOMY = SITE.replace("signal_seconds = 20", "signal_seconds = 60")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(tmp_path_factory.mktemp("cluster") / "cluster", nodes=2, gpus_per_node=2) as one:
        yield one


def made(
    folder: Path, nodes: int = 1, gpus: int = 2, processes: str = "per_rank",
    command: str = "python",
) -> Drill:  # fmt: skip
    script = folder / "ddp.py"
    script.write_text(DDP)
    text = DEFINITION.replace("COMMAND", command).format(
        script=script, nodes=nodes, gpus=gpus, processes=processes
    )
    return Drill(folder, text, ROOMY)


def files(drill: Drill) -> Path:
    return drill.store.folder_of(drill.trials[0]) / "files"


def begun(drill: Drill, rank: int = 0) -> list[tuple[int, int, int]]:
    path = files(drill) / f"begun-{rank}"
    lines = path.read_text().splitlines() if path.exists() else []
    return [tuple(map(int, line.split())) for line in lines]  # type: ignore[misc]


def ended(drill: Drill) -> list[float]:
    """Wait for the end, launching what was lost; the losses of all epochs."""

    def is_over() -> bool:
        state = drill.standing().state
        assert state is not State.FAILED, drill.standing().failure
        if state is State.LOST:
            drill.launch("--detach")
        return state is State.DONE

    wait_for(is_over, 240, told=drill.told)
    rows = tables.read_epochs(files(drill).parent).to_pylist()
    assert [row["epoch"] for row in rows] == list(range(EPOCHS))
    return [row["loss"] for row in rows]


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """What two ranks come to; here on two nodes."""
    drill = made(tmp_path_factory.mktemp("whole"), nodes=2, gpus=1)
    drill.launch("--detach")
    wait_for(lambda: begun(drill, 1), told=drill.told)
    (files(drill) / "go").touch()
    losses = ended(drill)
    assert [begun(drill, rank)[0][2] for rank in (0, 1)] == [2, 2]
    assert losses[-1] < losses[0]
    return losses


def waits(drill: Drill) -> None:
    wait_for(lambda: (files(drill) / "waits-1").exists(), told=drill.told)


def test_ranks_save_and_are_requeued_when_slurm_preempts_them(
    cluster: Cluster, tmp_path: Path, undisturbed: list[float]
) -> None:
    drill = made(tmp_path)
    drill.launch("--detach")
    waits(drill)
    lease = drill.standing().lease
    assert lease is not None
    node = cluster.command("squeue", "--noheader", f"--jobs={lease.job}", "--format=%N").strip()
    cluster.command(
        "sbatch", "--partition=high", f"--nodelist={node}", "--exclusive",
        "--output=/dev/null", "--wrap=true",
    )  # fmt: skip
    assert ended(drill) == undisturbed
    assert "asking the program to stop: SIGUSR1" in drill.said()
    starts = [epoch for epoch, _, _ in begun(drill)]
    assert len(starts) == 2 and starts[1] >= 3


def test_ranks_hand_their_trial_back_where_the_job_cannot_be_requeued(
    cluster: Cluster, tmp_path: Path, undisturbed: list[float]
) -> None:
    drill = made(tmp_path)
    drill.launch("--detach")
    waits(drill)
    lease = drill.standing().lease
    assert lease is not None and lease.job
    cluster.command("scontrol", "update", f"JobId={lease.job}", "Requeue=0")
    cluster.command("scancel", "--signal=USR2", lease.job)
    wait_for(lambda: drill.standing().state is State.PENDING, told=drill.told)
    said = drill.said()
    assert "asking the program to stop: SIGUSR1" in said
    assert "cannot be requeued" in said and "Traceback" not in said
    drill.launch("--detach")
    assert ended(drill) == undisturbed
    starts = [epoch for epoch, _, _ in begun(drill)]
    assert len(starts) == 2 and starts[1] >= 3


@pytest.mark.parametrize("victim", ["program", "worker"])
def test_ranks_go_on_when_one_of_them_is_killed(
    victim: str, cluster: Cluster, tmp_path: Path, undisturbed: list[float]
) -> None:
    drill = made(tmp_path)
    drill.launch("--detach")
    waits(drill)
    before = [begun(drill, rank)[0][1] for rank in (0, 1)]
    lease = drill.standing().lease
    assert lease is not None and lease.pid is not None
    os.kill(before[1] if victim == "program" else lease.pid, signal.SIGKILL)
    killed = before[1:] if victim == "program" else before
    wait_for(lambda: all(is_gone(pid) for pid in killed))
    (files(drill) / "go").touch()
    assert ended(drill) == undisturbed
    assert all(is_gone(pid) for pid in before)
    starts = [epoch for epoch, _, _ in begun(drill)]
    assert starts == [0, 3]


def test_a_script_that_calls_torchrun_itself(
    cluster: Cluster, tmp_path: Path, undisturbed: list[float]
) -> None:
    torchrun = "python -m torch.distributed.run --nproc-per-node={{nproc_per_node}} "
    torchrun += "--nnodes={{nnodes}} --node-rank={{node_rank}} --master-addr={{master_addr}} "
    torchrun += "--master-port={{master_port}}"
    drill = made(tmp_path, 2, 1, "per_node", torchrun)
    drill.launch("--detach")
    wait_for(lambda: begun(drill, 1), told=drill.told)
    (files(drill) / "go").touch()
    assert ended(drill) == undisturbed


def test_a_grace_that_does_not_fit_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    drill = made(tmp_path)
    (tmp_path / "here.toml").write_text(SITE)
    said = drill.launch(code=2).stderr
    assert "site 'here' warns a job 20 s before its end" in said
    assert "set signal_seconds = 35" in said
