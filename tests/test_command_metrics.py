"""What a program writes of its metrics is read while it grows, each row once."""

from __future__ import annotations

import json
import math
import os
import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_machine.errors import InputError
from sweeps import Sweep, minimize
from sweeps.command_task.metrics.collector import Collector
from sweeps.command_task.metrics.kinds import source_of
from sweeps.command_task.metrics.output_lines import OutputLines
from sweeps.command_task.metrics.source import Raw, Source
from sweeps.command_task.program import Program
from sweeps.run import attempt_folder
from sweeps.run.attempt import Attempt
from sweeps.run.handle import Run
from trial_records.log import Values


def begun(trial: Path, number: int) -> Run:
    token = f"token{number}"
    trial.mkdir(exist_ok=True)
    attempt_folder.make(trial, token)
    return Run(Attempt(trial, "0" * 64, "{}", token, number, task="x"))


class One:
    """An attempt that reads what a program writes."""

    def __init__(
        self, trial: Path, metrics: str | list[str], number: int = 1, step: str | None = None
    ) -> None:
        self.run = begun(trial, number)
        self.folder = trial / "files"
        self.folder.mkdir(exist_ok=True)
        state = self.run.load() or {}
        self.source: Source = source_of(metrics, self.folder, state, step)
        self.collector = Collector(self.run, self.source, step)

    def commit(self) -> None:
        self.run.files.sync_log()
        self.run.files.commit(self.source.position(), mark=self.run.files.mark(), plain=True)

    def rows(self) -> list[Values]:
        self.collector.poll()
        found = self.run.rows()
        assert str(found) == str(self.collector.rows)
        return found


def test_json_lines_grow(tmp_path: Path) -> None:
    one = One(tmp_path / "t", "metrics.jsonl")
    assert one.rows() == []
    assert one.source.missing().endswith("metrics.jsonl never appeared")
    with (one.folder / "metrics.jsonl").open("w") as file:
        file.write('{"epoch": 0, "val": {"loss": 0.5}, "name": "a"}\n{"epoch": 1')
        file.flush()
        assert one.rows() == [{"epoch": 0, "val.loss": 0.5}]
        file.write(', "val": {"loss": NaN}}\nnot json\n[1]\n')
        file.flush()
        assert str(one.rows()[1]) == "{'epoch': 1, 'val.loss': nan}"


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_rows_are_complete_and_once_however_it_is_read_and_killed(
    tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    """A program writes rows, saves now and then, and is killed; it goes on from its save. Readers
    look at any time, commit now and then, and are killed with it."""
    chance = random.Random(seed)
    trial = tmp_path_factory.mktemp("t") / "t"
    metrics = chance.choice(["m.jsonl", "m.csv"])
    saved, epochs, attempt = 0, 12, 1
    one = One(trial, metrics)
    path = one.folder / metrics
    epoch = 0
    while epoch < epochs:
        row = {"epoch": epoch, "loss": epoch / 7, "of": attempt}
        is_new = not path.exists()
        with path.open("a") as file:
            if metrics == "m.csv":
                file.write("epoch,loss,of\n" * is_new + f"{epoch},{row['loss']},{attempt}\n")
            else:
                file.write(json.dumps(row) + "\n")
        epoch += 1
        if chance.random() < 0.4:
            saved = epoch
        if chance.random() < 0.5:
            one.collector.poll()
        if chance.random() < 0.4:
            one.collector.poll()
            one.commit()
        if chance.random() < 0.25 and attempt < 6:
            one.run.files.close()
            attempt += 1
            if chance.random() < 0.5 and path.exists():
                with path.open("a") as file:
                    file.write('{"epoch": 3, "lo' if metrics == "m.jsonl" else "3,")
                    file.write("\n" * (chance.random() < 0.5))
                if not path.read_text().endswith("\n"):
                    with path.open("a") as file:
                        file.write("\n")  # as a program that goes on must begin
            one = One(trial, metrics, attempt)
            epoch = saved
    rows = one.rows()
    assert [(row["epoch"], row["loss"]) for row in rows] == [(n, n / 7) for n in range(epochs)]


def test_a_program_that_goes_back_takes_its_rows_back(tmp_path: Path) -> None:
    one = One(tmp_path / "t", "m.jsonl")
    path = one.folder / "m.jsonl"
    path.write_text("".join(f'{{"epoch": {n}, "loss": 1}}\n' for n in range(6)))
    one.rows()
    one.commit()
    one.run.files.close()
    two = One(tmp_path / "t", "m.jsonl", 2)
    with path.open("a") as file:
        file.write('{"epoch": 3, "loss": 2}\n')  # and stops early
    assert [(row["epoch"], row["loss"]) for row in two.rows()] == [(0, 1), (1, 1), (2, 1), (3, 2)]


def test_a_file_that_is_written_anew_is_read_anew(tmp_path: Path) -> None:
    one = One(tmp_path / "t", "metrics.csv")
    path = one.folder / "metrics.csv"
    path.write_text("step,loss\n0,3\n1,2\n")
    one.rows()
    # As CSVLogger does when a metric comes to it.
    path.write_text("step,loss,val_loss\n0,3,\n1,2,\n1,,0.5\n2,1,\n")
    assert one.rows() == [
        {"step": 0, "loss": 3}, {"step": 1, "loss": 2, "val_loss": 0.5}, {"step": 2, "loss": 1},
    ]  # fmt: skip


def test_names_with_wildcards(tmp_path: Path) -> None:
    one = One(tmp_path / "t", "lightning_logs/*/metrics.csv")
    for version in (0, 1):
        folder = one.folder / f"lightning_logs/version_{version}"
        folder.mkdir(parents=True)
        (folder / "metrics.csv").write_text(f"step,loss\n{version},1\n")
    assert [row["step"] for row in one.rows()] == [0, 1]


def test_rows_without_a_step_are_rows(tmp_path: Path) -> None:
    one = One(tmp_path / "t", "m.jsonl")
    (one.folder / "m.jsonl").write_text('{"loss": 1}\n{"loss": 1}\n')
    assert one.rows() == [{"loss": 1}, {"loss": 1}]


def test_what_a_program_calls_its_step(tmp_path: Path) -> None:
    one = One(tmp_path / "t", "m.jsonl", step="iteration")
    (one.folder / "m.jsonl").write_text('{"iteration": 5, "loss": 1, "task": 3}\n')
    assert one.rows() == [{"step": 5, "loss": 1, "task_value": 3}]


def test_trainer_state(tmp_path: Path) -> None:
    one = One(tmp_path / "t", "trainer_state.json")

    def write(step: int, history: list[dict[str, Any]]) -> None:
        path = one.folder / f"checkpoint-{step}/trainer_state.json"
        path.parent.mkdir()
        path.write_text(json.dumps({"log_history": history}))

    first = [{"epoch": 0.5, "step": 10, "loss": 2.0}]
    write(10, first)
    assert one.rows() == first
    write(20, [*first, {"epoch": 1.0, "step": 20, "loss": 1.0},
               {"epoch": 1.0, "step": 20, "eval_loss": 1.5}])  # fmt: skip
    assert one.rows() == [*first, {"epoch": 1.0, "step": 20, "loss": 1.0, "eval_loss": 1.5}]


@pytest.mark.parametrize(
    ("pattern", "lines", "rows"),
    [
        ("epoch {epoch} * loss {loss}", ["Epoch 3  took 2 s, loss  1.5e-3 ok"],
         [{"epoch": 3, "loss": 0.0015}]),
        ("step {step}: {acc}%", ["step 1_000: 92.5%", "x", "step 2000: nan%"],
         [{"step": 1000, "acc": 92.5}, {"step": 2000, "acc": float("nan")}]),
        (r"e(?P<epoch>\d+).*=(?P<loss>\S+)", ["e7 l=0.25"], [{"epoch": 7, "loss": 0.25}]),
        ("(loss) {loss}", ["(loss) -1"], [{"loss": -1}]),
        ("loss {loss} of {n}", ["loss 1,234.5 of 1,000,000", "loss 1 of 2,34"],
         [{"loss": 1234.5, "n": 1_000_000}, {"loss": 1, "n": 2}]),
        (r"(loss|cost) (?P<loss>\S+)", ["cost 3"], [{"loss": 3}]),
    ],
)  # fmt: skip
def test_a_pattern_of_the_output(
    tmp_path: Path, pattern: str, lines: Sequence[str], rows: Sequence[Raw]
) -> None:
    one = One(tmp_path / "t", f"output: {pattern}")
    assert one.source.output is not None
    one.source.output.write_text("".join(f"{line}\n" for line in lines))
    assert str(one.rows()) == str(list(rows))


def test_several_patterns_are_of_the_step_that_was_printed_last(tmp_path: Path) -> None:
    patterns = ["output: Iter: {iteration}", "output: train {train}", "output: val {val} after {n}"]
    one = One(tmp_path / "t", patterns, step="iteration")
    said = ["val 9 after 0", "Iter: 1", "train 3", "train 2", "val 4 after 8", "Iter: 2", "Iter: 3"]
    assert one.source.output is not None
    for line in [*said, "train 1"]:
        with one.source.output.open("a") as file:
            file.write(f"{line}\n")
    assert one.rows() == [
        {"val": 9, "n": 0}, {"step": 1, "train": 2, "val": 4, "n": 8}, {"step": 3, "train": 1},
    ]  # fmt: skip


@pytest.mark.parametrize(
    "metrics", [[], [""], 3, ["output: {a}", "m.jsonl"], ["output: {a}", "output: a"]]
)
def test_a_list_that_cannot_be_read(metrics: Any) -> None:
    with pytest.raises(InputError, match="metrics"):
        Sweep(command="x", metrics=metrics, objective=minimize("a"))


@pytest.mark.parametrize(
    ("name", "text"),
    [("m.jsonl", '{"epoch": 0, "loss": 1}\n{"epoch": 1, "loss": 0.5}'),
     ("m.csv", "epoch,loss\n0,1\n1,0.5")],
)  # fmt: skip
def test_a_last_line_without_an_end_is_a_row_of_a_program_that_ended(
    tmp_path: Path, name: str, text: str
) -> None:
    one = One(tmp_path / "t", name)
    (one.folder / name).write_text(text)
    assert one.rows() == [{"epoch": 0, "loss": 1}]  # it may be half of a row
    one.collector.end()
    assert one.rows() == [{"epoch": 0, "loss": 1}, {"epoch": 1, "loss": 0.5}]


def test_old_checkpoints_may_be_removed_while_they_are_looked_at(tmp_path: Path) -> None:
    one = One(tmp_path / "t", "trainer_state.json")
    states = [one.folder / f"checkpoint-{step}/trainer_state.json" for step in range(1000)]
    history = json.dumps({"log_history": [{"step": 1, "loss": 2.0}]})
    for path in states:
        path.parent.mkdir()
        path.write_text(history)

    def rotate() -> None:
        for path in states[:-1]:
            path.unlink()
            path.parent.rmdir()

    rotating = threading.Thread(target=rotate)
    rotating.start()
    while rotating.is_alive():
        one.collector.poll()
    rotating.join()
    assert one.rows() == [{"step": 1, "loss": 2.0}]


def test_a_whole_number_larger_than_a_float(tmp_path: Path) -> None:
    one = One(tmp_path / "t", "m.jsonl")
    (one.folder / "m.jsonl").write_text('{"epoch": 0, "loss": -1' + 400 * "0" + "}\n")
    assert one.rows() == [{"epoch": 0, "loss": -math.inf}]


def test_output_that_a_killed_worker_had_not_read_is_read_by_the_next(tmp_path: Path) -> None:
    def printed(one: One, text: str) -> None:
        assert one.source.output is not None
        program = Program(["printf", "%s", text], os.environ, one.folder, one.source.output)
        while program.poll() is None:
            time.sleep(0.01)

    one = One(tmp_path / "t", "output: epoch {epoch} loss {loss}")
    printed(one, "epoch 0 loss 3\r")
    assert [row["epoch"] for row in one.rows()] == [0]
    one.commit()
    printed(one, "epoch 1 loss 2\nepoch 2 loss 1")
    one.run.files.close()
    two = One(tmp_path / "t", "output: epoch {epoch} loss {loss}", 2)
    printed(two, "epoch 3 loss 0\n")
    assert [row["epoch"] for row in two.rows()] == [0, 1, 2, 3]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_lines_as_a_person_sees_them(size: int) -> None:
    """However they come."""
    content = b"a\r\n\x1b[1;31mloss\x1b[0m 0.5\n\n\r 10%|#\xe2\x96\x88\r 20%\x1b[K\rdone\n"
    content += b" [==>] 0.5\x08\x08\x08 1/2 \r\x1b]0;title\x07\x07x\tb"
    lines = OutputLines()
    found = [
        line for at in range(0, len(content), size) for line in lines.add(content[at : at + size])
    ]
    assert [line.text for line in [*found, *lines.end()] if line.text] == [
        "a", "loss 0.5", " 10%|#█", " 20%", "done", " [==>] 0.5  1/2 ", "\\x07x\tb",
    ]  # fmt: skip
    over = [line.text for line in found if line.is_overwritten and line.text]
    assert over == [" 10%|#█", " 20%", " [==>] 0.5  1/2 "]


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    one = One(tmp_path / "t", "tensorboard")

    def write(steps: Sequence[int], loss: float) -> None:
        with SummaryWriter(str(one.folder / "runs")) as writer:
            for step in steps:
                writer.add_scalar("loss/train", loss, step)
                writer.add_scalar("lr", 0.1, step)
                writer.add_histogram("weights", np.ones(3), step)

    write([0, 1, 2], 1.0)
    assert [(row["step"], row["loss/train"]) for row in one.rows()] == [
        (0, 1.0),
        (1, 1.0),
        (2, 1.0),
    ]
    one.commit()
    one.run.files.close()
    two = One(tmp_path / "t", "tensorboard", 2)
    assert len(two.rows()) == 3
    write([2, 3], 2.0)
    assert [row["loss/train"] for row in two.rows()] == [1.0, 1.0, 2.0, 2.0]
    assert two.rows()[0].keys() == {"step", "loss/train", "lr"}
