"""Programs as the public writes them: a folder of their own, a flag to resume, a progress bar."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_command_sweep import is_gone, launch, logs, wait_until
from test_kill import kill, workers_of

from local_machine.errors import InputError
from local_machine.files import matching
from sweeps import Sweep, minimize
from sweeps.state.progress import units_after
from trial_records import tables
from trial_records.plan import PlannedCommand, PlannedTask

pytestmark = pytest.mark.usefixtures("forked")

# It reads a file beside it by a relative path, resumes by a flag alone, and without it starts over.
TRAIN = """
import argparse, os, sys, time
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--out")
parser.add_argument("--resume")
args = parser.parse_args()
epochs = int(open("epochs.txt").read())
begin = int(open(args.resume).read()) if args.resume else 0
open(args.out + "/begun", "a").write(f"{begin} {os.getpid()}\\n")
for epoch in range(begin, epochs):
    print(f"\\x1b[1mEpoch {epoch + 1}/{epochs}\\x1b[0m")
    for batch in range(100):
        print(f"\\r{batch}% loss {epoch + args.lr:.2f}", end="")
        time.sleep(0.0005)
    print(f"\\nval loss {1000 * args.lr / (epoch + 1):,.2f}")
    open(args.out + "/save.new", "w").write(str(epoch + 1))
    os.replace(args.out + "/save.new", args.out + "/save-1.txt")
    if epoch == 2 and args.lr == 2 and not args.resume:
        time.sleep(600)
"""
DEFINITION = """
from sweeps import Sweep, grid, minimize
sweep = Sweep(
    command="python train.py --lr {{lr}} --out {{folder}}", space=grid({{"lr": [2.0, 3.0]}}),
    directory="{directory}", resume="--resume {{folder}}/save-1.txt", checkpoint="save-*.txt",
    metrics=["output: epoch {{epoch}}/*", "output: val loss {{val_loss}}"],
    objective=minimize("val_loss"),
)
"""
EPOCHS = 20


def begun(folder: Path) -> list[list[int]]:
    lines = (folder / "begun").read_text().splitlines() if (folder / "begun").exists() else []
    return [[int(word) for word in line.split()] for line in lines]


def test_a_program_that_resumes_by_a_flag_alone_is_killed_and_goes_on(tmp_path: Path) -> None:
    home = tmp_path / "its repository"
    home.mkdir()
    (home / "train.py").write_text(TRAIN)
    (home / "epochs.txt").write_text(str(EPOCHS))
    definition = tmp_path / "public.py"
    definition.write_text(DEFINITION.format(directory=home))
    first = launch(definition, "--workers", "1")
    results = tmp_path / "results/public"
    begins = lambda: [one for path in matching(results, "lr2*/files") for one in begun(path)]  # noqa: E731

    def is_saved() -> bool:
        return any(path.read_text() == "3" for path in matching(results, "lr2*/files/save-1.txt"))

    wait_until(is_saved)
    (worker,) = workers_of(first.pid)
    kill(worker)
    wait_until(lambda: is_gone(begins()[0][1]), 10)
    assert first.wait(60) == 0
    assert [epoch for epoch, _ in begins()] == [0, 3]
    for lr in (2, 3):
        (trial,) = results.glob(f"lr{lr}*")
        rows = tables.read_epochs(trial).to_pylist()
        assert [row["epoch"] for row in rows] == list(range(1, EPOCHS + 1))
        expected = [round(1000 * lr / epoch, 2) for epoch in range(1, EPOCHS + 1)]
        assert [row["val_loss"] for row in rows] == expected
    said = logs(results)
    assert "\x1b" not in said and "Epoch 3/20\n" in said
    # Of the bar, its end and a state now and then.
    assert said.count("99% loss") >= EPOCHS and said.count("% loss") < 3 * 2 * EPOCHS


def test_a_program_may_work_in_the_folder_of_its_trial(tmp_path: Path) -> None:
    script = tmp_path / "train.sh"
    script.write_text('echo "{\\"epoch\\": 0, \\"loss\\": $1}" > metrics.jsonl\n')
    definition = tmp_path / "own.py"
    definition.write_text(
        "from sweeps import Sweep, grid, minimize\n"
        f"sweep = Sweep(command='sh {script} {{lr}}', space=grid({{'lr': [0.5, 0.25]}}), "
        "directory='{folder}', metrics='metrics.jsonl', objective=minimize('loss'))\n"
    )
    assert launch(definition, "--workers", "2").wait(60) == 0
    found = [
        tables.read_epochs(trial).to_pylist() for trial in (tmp_path / "results/own").glob("lr*")
    ]
    assert sorted(row["loss"] for (row,) in found) == [0.25, 0.5]


def test_the_last_line_of_a_program_that_ended_needs_no_end(tmp_path: Path) -> None:
    definition = tmp_path / "endless.py"
    definition.write_text(
        "from sweeps import Sweep, minimize\n"
        "sweep = Sweep(command=['sh', '-c', 'printf %s \"$1\" > {folder}/m.jsonl', 'x', "
        "'{{\"epoch\": 0, \"loss\": 0.5}}'], metrics='m.jsonl', objective=minimize('loss'))\n"
    )
    assert launch(definition, "--workers", "1").wait(60) == 0
    (run,) = (tmp_path / "results/endless").glob("*/run.parquet")
    assert tables.read_epochs(run.parent).to_pylist()[0]["loss"] == 0.5


def test_a_checkpoint_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    definition = tmp_path / "half.py"
    definition.write_text(
        "from sweeps import Sweep, minimize\n"
        "sweep = Sweep(command=['sh', '-c', 'test -z \"$1\" && echo loss 1 && "
        "touch {folder}/a.pt && exit 75; exit 1', 'x', '{resume}'], "
        "metrics='output: loss {loss}', "
        "objective=minimize('loss'), resume='--resume', checkpoint='a.pt')\n"
    )
    assert launch(definition, "--workers", "1").wait(60) == 1
    (failure,) = (tmp_path / "results/half").glob("*/failure.json")
    said = json.loads(failure.read_text())["traceback"]
    assert "go on from a.pt in its folder" in said and "remove it" in said


@pytest.mark.parametrize(
    ("budget", "rows", "units"),
    [
        ("epochs", [{"epoch": 0}, {"epoch": 1}], [1, 2]),
        ("epochs", [{"epoch": 1, "val_loss": 1}, {"epoch": 2}], [1, 2]),
        ("max_steps", [{"step": 500}, {"val_loss": 3}, {"step": 1000}], [500, 500, 1000]),
        ("train.max_iters", [{"step": 0}, {"step": 20}], [1, 21]),
        ("max_epochs", [{"epoch": 0.5}, {"epoch": 1.0}], [0, 1]),
        ("seconds", [{"step": 5}, {"step": 9}], [1, 2]),
        (None, [{"epoch": 3}], [1]),
    ],
)
def test_how_far_rows_have_come(
    budget: str | None, rows: list[dict[str, float]], units: list[int]
) -> None:
    command = PlannedCommand(template="x", metrics="m.jsonl")
    task = PlannedTask(name="x", reference="x:command", budget=budget, command=command)
    assert units_after(task, rows) == units  # type: ignore[arg-type]


def swept(command: str = "python train.py {lr}", **options: str) -> Sweep:
    given = {"metrics": "m.jsonl", **options}
    return Sweep(
        command=command, base={"lr": 0.1}, objective=minimize("loss"),
        **given,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"resume": "--resume"}, "resume is given, and checkpoint is not"),
        ({"checkpoint": "a.pt"}, "checkpoint is given, and resume is not"),
        ({"resume": "--from {fold}", "checkpoint": "a.pt"}, "resume has a placeholder {fold}"),
        ({"resume": "--from", "checkpoint": "/tmp/a.pt"}, "not in the program's folder"),
        ({"resume": "--from", "checkpoint": "**a.pt"}, "not in the program's folder"),
        ({"metrics": "**metrics.csv"}, "not in the program's folder"),
        ({"done": "**model.pt"}, "not in the program's folder"),
        ({"directory": "nowhere"}, "directory is 'nowhere', which is not there"),
        ({"directory": ""}, "directory is ''"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, str], said: str) -> None:
    with pytest.raises(InputError) as raised:
        swept(**options)
    assert said in raised.value.what


def test_a_directory_is_not_part_of_identity_and_its_script_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one").mkdir()
    script = tmp_path / "one/train.py"
    script.touch()
    one = swept(directory="one").task
    assert one is not None
    assert (one.name, one.reference) == ("python train.py {lr}", f"{script}:command")
    one.check([{"lr": 0.1}], 1)
    (tmp_path / "two").mkdir()
    script.rename(tmp_path / "two/train.py")
    two = swept(directory="two").task
    assert two is not None and two.name == one.name
    with pytest.raises(InputError, match=f"train.py is not there, in {tmp_path}/one"):
        one.check([{"lr": 0.1}], 1)
    script.parent.rmdir()
    with pytest.raises(InputError, match=f"the directory {tmp_path}/one"):
        one.check([{"lr": 0.1}], 1)
    (tmp_path / "three").mkdir()
    (tmp_path / "three/train.py").write_text("another")
    with pytest.raises(InputError) as raised:
        swept(directory="three")
    assert "write the whole path of the script" in raised.value.help


def test_a_script_in_the_folder_of_a_trial_must_be_named_by_its_whole_path() -> None:
    task = swept("python own/train.py {lr}", directory="{folder}").task
    assert task is not None
    with pytest.raises(InputError, match=r"train.py is not in the trial's folder"):
        task.check([{"lr": 0.1}], 1)
