"""Runs that were made without us enter the store, and nothing of theirs is changed."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import results_folder
from task_results import write_results
from test_kill import ROOT

from local_machine.errors import InputError, run_command
from sweeps.adopt import foreign_config
from sweeps.adopt.__main__ import app
from sweeps.adopt.foreign_config import values_in, values_of_name
from sweeps.run import attempt_files
from sweeps.state import plan_store
from sweeps.state.trial_store import TrialStore
from trial_records import tables, trial_files

Said = tuple[int, str, str]
RUN = trial_files.RUN
WORDS = (
    "--name", "theirs", "--metrics", "metrics.csv", "--config", "args.json", "--minimize", "loss",
)  # fmt: skip


def csv_of(losses: list[Any], epoch: int = 0) -> str:
    lines = [f"{epoch + n},{loss}\n" for n, loss in enumerate(losses)]
    return "".join(["epoch,loss\n", *lines])


def make(root: Path, name: str, values: Any, losses: list[Any], metrics: str | None = None) -> Path:
    """A run as its program left it."""
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "args.json").write_text(json.dumps(values))
    (folder / "metrics.csv").write_text(csv_of(losses) if metrics is None else metrics)
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two rates, two seeds."""
    root = tmp_path / "runs"
    for rate in (0.1, 0.01):
        for seed in (0, 1):
            place = f"/home/me/runs/lr{rate}-seed{seed}"
            values = {"lr": rate, "seed": seed, "net": {"depth": 2}, "epochs": 3, "out": place}
            make(root, f"lr{rate}-seed{seed}", values, [1.0, rate, rate + 0.1 * seed])
    (root / "figures").mkdir()
    return root


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    def run(name: str, *words: str, module: Any = app) -> Said:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            run_command(module, [name, "--results", str(tmp_path / "results"), *words])
        return int(end.value.code or 0), *capsys.readouterr()

    return run


@pytest.fixture
def adopt(command: Callable[..., Said]) -> Callable[..., Said]:
    def run(root: Path, *words: str, **instead: str) -> Said:
        given = {
            "name": "theirs", "metrics": "metrics.csv", "config": "args.json", "minimize": "loss",
            **instead,
        }  # fmt: skip
        options = [word for key, value in given.items() if value for word in (f"--{key}", value)]
        return command(str(root), *options, *words)

    return run


def snapshot(root: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in root.rglob("*")
        if path.is_file()
    }


def rows_of(results: Path, name: str = "theirs") -> list[dict[str, Any]]:
    """The runs of the trials that plans name, by their origins."""
    store = TrialStore(results, name)
    trials = {one.name: one for plan in store.plans() for one in plan.trials}
    found = [tables.read_run(store.folder_of(one), one.fingerprint) for one in trials.values()]
    return sorted(found, key=lambda run: str(run["adopted_from"]))


def test_runs_become_finished_trials_and_are_left_as_they_were(
    runs: Path, tmp_path: Path, adopt: Callable[..., Said]
) -> None:
    before = snapshot(runs)
    code, out, err = adopt(runs)
    assert code == 0 and snapshot(runs) == before
    assert out == "theirs: 4 runs: 4 new, 0 as they were; they differ in lr, seed: seed\n"
    assert "own folder: out" in err and "figures" in err
    found = rows_of(tmp_path / "results")
    assert [(run["config.lr"], run["seed"], run["objective"]) for run in found] == [
        (0.01, 0, 0.01), (0.01, 1, 0.01), (0.1, 0, 0.1), (0.1, 1, 0.1),
    ]  # fmt: skip
    first = found[0]
    assert first["status"] == "done" and first["seconds"] is first["device"] is None
    assert first["adopted_from"] == str(runs / "lr0.01-seed0") and first["adopted_at"]
    assert set(json.loads(first["adopted_files"])) == {"args.json", "metrics.csv"}
    assert "config.out" not in first and first["config.net.depth"] == 2
    folder = tmp_path / "results/theirs" / first["trial"]
    assert tables.read_epochs(folder, first["epochs_sha256"]).to_pylist()[1] == {
        "epoch": 1, "loss": 0.01,
    }  # fmt: skip
    assert {path.name for path in folder.iterdir()} == {"config.json", "epochs.parquet", RUN}


def test_again_adds_what_is_new_and_leaves_the_rest(
    runs: Path, tmp_path: Path, adopt: Callable[..., Said]
) -> None:
    assert adopt(runs)[0] == 0
    before = snapshot(tmp_path / "results")
    assert "0 new, 4 as they were" in adopt(runs)[1]
    assert snapshot(tmp_path / "results") == before
    make(runs, "adam", {"lr": 0.1, "seed": 0, "net": {"depth": 3}, "epochs": 3}, [0.5])
    code, out, _ = adopt(runs)
    assert code == 0 and "5 runs: 1 new, 4 as they were; they differ in lr, net.depth" in out
    after = snapshot(tmp_path / "results")
    plans = {path for path in before if "/plans/" in path}
    assert {path: after[path] for path in before.keys() - plans} == {
        path: before[path] for path in before.keys() - plans
    }
    # One plan has all of them.
    assert len([path for path in after if "/plans/" in path]) == 1 and not plans & after.keys()


def test_what_changed_is_named_and_taken_in_when_that_is_asked_for(
    runs: Path, tmp_path: Path, adopt: Callable[..., Said]
) -> None:
    assert adopt(runs)[0] == 0
    (runs / "lr0.1-seed0/metrics.csv").write_text(csv_of([1.0, 0.05]))
    (runs / "lr0.1-seed1/args.json").write_text(json.dumps({"lr": 0.2, "seed": 1}))
    before = snapshot(tmp_path / "results")
    code, out, err = adopt(runs)
    assert code == 1 and "0 new, 2 as they were, 2 left out" in out
    assert "lr0.1-seed0: changed since it was adopted: metrics.csv" in err
    assert "lr0.1-seed1: its configuration is another one" in err and "--update" in err
    assert snapshot(tmp_path / "results") == before
    code, out, _ = adopt(runs, "--update")
    assert code == 0 and "4 runs: 0 new, 2 as they were, 2 updated" in out
    found = rows_of(tmp_path / "results")
    assert [(run["config.lr"], run["objective"]) for run in found[2:]] == [(0.1, 0.05), (0.2, 0.1)]
    assert len(list((tmp_path / "results/theirs").glob("lr*"))) == 4
    assert "0 new, 4 as they were" in adopt(runs)[1]


def test_a_call_that_was_killed_goes_on(
    runs: Path, tmp_path: Path, adopt: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each thing that it does to the disk, one call a place."""
    from local_machine import files

    real = files.write_atomic
    for place in range(20):
        calls = iter(range(100))

        def killed(*given: Any, place: int = place, calls: Any = calls) -> None:
            if next(calls) == place:
                raise KeyboardInterrupt
            real(*given)

        with monkeypatch.context() as patch:
            for module in (plan_store, attempt_files, tables):
                patch.setattr(module, "write_atomic", killed)
            code, _, _ = adopt(runs)
        assert code == 130 or place
        if not code:
            break
    assert 0 < place < 20
    assert len(rows_of(tmp_path / "results")) == 4
    assert not list((tmp_path / "results").rglob("claim.json"))


@pytest.mark.long
def test_a_call_that_is_killed_for_good(
    runs: Path, tmp_path: Path, adopt: Callable[..., Said]
) -> None:
    """It holds a trial then, and gives nothing back."""
    code = """
import os, sys
from local_machine import files
from local_machine.errors import run_command
from sweeps.adopt.__main__ import app
from sweeps.run import attempt_folder
real, left = attempt_folder.publish, int(sys.argv.pop(1))
def killed(*given):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), 9)
    real(*given)
attempt_folder.publish = killed
run_command(app)
"""
    words = (*WORDS, "--results", str(tmp_path / "results"))
    for place in ("1", "2", "5"):
        done = subprocess.run([sys.executable, "-c", code, place, str(runs), *words], cwd=ROOT)
        assert done.returncode == -9
    assert list((tmp_path / "results").rglob("claim.json"))
    assert adopt(runs)[0] == 0
    assert len(rows_of(tmp_path / "results")) == 4
    assert not list((tmp_path / "results").rglob("claim.json"))


def test_every_command_behaves(
    runs: Path, tmp_path: Path, adopt: Callable[..., Said], command: Callable[..., Said]
) -> None:
    import sweeps.compact.__main__
    import sweeps.launch
    import sweeps.retry
    import sweeps.status
    import sweeps.verify.__main__

    adopt(runs)
    code, out, _ = command("theirs", "--json", module=sweeps.status.app)
    told = json.loads(out)
    assert code == 0 and told["counts"]["done"] == 4
    assert told["trials"][0]["epochs"] == told["trials"][0]["epochs_done"] == 3
    for module in (sweeps.launch, sweeps.verify.__main__):
        code, _, err = command("theirs", module=module.app)
        assert code == 2 and "made elsewhere and adopted" in err
    # Nor by a definition of that name.
    definition = tmp_path / "theirs.py"
    definition.write_text(
        "from sweeps import Sweep, minimize\n"
        'sweep = Sweep(command="true {lr}", base={"lr": 1.0}, metrics="m.csv",'
        ' objective=minimize("loss"))\n'
    )
    code, _, err = command(str(definition), "--on", "local", module=sweeps.launch.app)
    assert code == 2 and "theirs has runs that were made elsewhere" in err
    # One whose records are gone is not trained either.
    (victim,) = (tmp_path / "results/theirs").glob("lr0.1-seed0-*/run.parquet")
    victim.unlink()
    code, _, err = command("theirs", "--on", "local", module=sweeps.retry.app)
    assert not victim.exists() and "Traceback" not in err
    assert "1 new, 3 as they were" in adopt(runs)[1] and victim.exists()
    before = rows_of(tmp_path / "results")
    code, out, _ = command("theirs", module=sweeps.compact.__main__.app)
    assert code == 0 and "4 trials" in out
    assert str(rows_of(tmp_path / "results")) == str(before)
    assert "0 new, 4 as they were" in adopt(runs)[1]
    (runs / "lr0.1-seed0/metrics.csv").write_text(csv_of([1.0]))
    code, _, err = adopt(runs, "--update")
    assert code == 1 and "is compacted" in err and "sweeps.compact theirs --undo" in err
    assert command("theirs", "--undo", module=sweeps.compact.__main__.app)[0] == 0
    assert adopt(runs, "--update")[0] == 0


def test_a_report_compares_them_beside_a_sweep_of_ours(
    runs: Path, tmp_path: Path, adopt: Callable[..., Said]
) -> None:
    adopt(runs)
    results = tmp_path / "results"
    write_results(results)
    out = tmp_path / "report"
    code = results_folder.run("theirs", "mine", "--results", results, "--out", out)
    text = (out / "report.md").read_text()
    assert code == 0 and "Every file was read." in text
    assert "theirs: 4 runs from elsewhere" in text.replace("\\", "")
    assert "The best mean, 0.01 over 2 trials, has lr 0.01" in text
    assert "Task: mine." in text and "The runs were made elsewhere and adopted." in text


# What cannot be read


def test_what_cannot_be_read_is_named_and_the_rest_enters(
    runs: Path, tmp_path: Path, adopt: Callable[..., Said]
) -> None:
    values = {"lr": 1.0, "seed": 0}
    make(runs, "no-metric", values, [], "epoch,acc\n0,0.5\n")
    make(runs, "no-rows", values, [], "epoch,loss\n")
    make(runs, "broken", values, [1])
    (runs / "broken/args.json").write_text("{")
    make(runs, "a-list", [1, 2], [1])
    make(runs, "no-config", values, [1])
    (runs / "no-config/args.json").unlink()
    make(runs, "no-file", values, [1])
    (runs / "no-file/metrics.csv").unlink()
    make(runs, "twice", {"lr": 0.1, "seed": 0, "net": {"depth": 2}, "epochs": 3}, [1])
    make(runs, "huge", values, [1])
    with (runs / "huge/metrics.csv").open("r+") as file:
        file.truncate(2**30)
    make(runs, "pipe", {"lr": 3.0}, [1])
    (runs / "pipe/args.json").unlink()
    os.mkfifo(runs / "pipe/args.json")
    make(runs, "lo\x1b[31mng\n", {"lr": 2.0, "a": {"b": float("nan")}, "a.b": 1}, [1])
    make(runs, "escape", {"l\x1b[31mr": 1.0}, [1])
    code, out, err = adopt(runs)
    assert code == 1 and "4 runs: 4 new" in out and "11 left out" in out
    for name, what in {
        "no-metric": "no row of its metrics has 'loss'",
        "no-rows": "has no row",
        "broken": "cannot be read as a configuration",
        "a-list": "it holds a list",
        "no-config": "no file of its configuration: args.json",
        "no-file": "no file of metrics: metrics.csv",
        "twice": "has the same configuration as",
        "huge": "has 1024 MiB, and at most 256 are read",
        "pipe": "is not a regular file",
        "escape": "is not a field's name",
        "lo": "'a.b' twice",
    }.items():
        lines = [line for line in err.splitlines() if f"runs/{name}" in line]
        assert any(what in line for line in lines), (name, err)
    assert "\x1b" not in err and "Traceback" not in err


def test_links_that_lead_out_are_refused(
    runs: Path, tmp_path: Path, adopt: Callable[..., Said]
) -> None:
    values = {"lr": 1.0, "seed": 0}
    outside = make(tmp_path / "outside", "run", values, [0.5])
    (runs / "linked").symlink_to(outside)
    for name, file in (("a", "metrics.csv"), ("b", "args.json")):
        folder = make(runs, name, {"lr": 2.0, "name": name}, [0.5])
        (folder / file).unlink()
        (folder / file).symlink_to(outside / file)
    inner = make(runs, "inner", {"lr": 3.0}, [0.5])
    (inner / "metrics.csv").rename(inner / "kept.csv")
    (inner / "metrics.csv").symlink_to("kept.csv")
    code, out, err = adopt(runs)
    assert code == 1 and "5 runs: 5 new, 0 as they were, 3 left out" in out
    for name in ("linked", "a/metrics.csv", "b/args.json"):
        assert f"runs/{name} is a link that leads out of" in err


@pytest.mark.parametrize(
    ("words", "instead", "what"),
    [
        ((), {"name": "../x"}, "is not a valid name"),
        ((), {"minimize": ""}, "nothing says by what"),
        (("--maximize", "acc"), {}, "both given"),
        ((), {"metrics": "../x.csv"}, "is not in the program's folder"),
        ((), {"metrics": "metrics.txt"}, "not a kind of file"),
        ((), {"config": "/etc/x.json"}, "not a pattern of paths"),
        (("--runs", "../*"), {}, "not a pattern of paths"),
        (("--runs", "x/*"), {}, "has no runs"),
        (("--seed", "lr"), {}, "not a whole number"),
        (("--seed", "sed"), {}, "has no such value"),
        ((), {"metrics": "output: loss {loss}"}, "nothing says which file"),
        (("--output", "x"), {}, "--output says"),
    ],
)
def test_what_is_asked_for_wrongly(
    words: tuple[str, ...], instead: dict[str, str], what: str,
    runs: Path, tmp_path: Path, adopt: Callable[..., Said],
) -> None:  # fmt: skip
    code, _, err = adopt(runs, *words, **instead)
    assert code == 2 and what in err and "help: " in err
    assert not list((tmp_path / "results").rglob("*.parquet"))


def test_a_name_stands_for_one_kind_and_one_objective(
    runs: Path, tmp_path: Path, adopt: Callable[..., Said]
) -> None:
    write_results(tmp_path / "results")
    code, _, err = adopt(runs, name="mine")
    assert code == 2 and "mine has trials that were trained here" in err
    assert adopt(runs)[0] == 0
    code, _, err = adopt(runs, minimize="loss:last")
    assert code == 2 and "was adopted to minimize loss (best)" in err


def test_a_dry_run_writes_nothing(runs: Path, tmp_path: Path, adopt: Callable[..., Said]) -> None:
    code, out, _ = adopt(runs, "--dry-run")
    assert code == 0 and "4 new" in out and "lr0.01-seed1" in out
    assert not (tmp_path / "results").exists()
    told = json.loads(adopt(runs, "--dry-run", "--json")[1])
    assert len(told["added"]) == 4 and told["axes"] == ["lr"] and told["seed"] == "seed"


# Kinds of files


def test_all_that_programs_write(tmp_path: Path, adopt: Callable[..., Said]) -> None:
    """Each kind of metrics, with a configuration as those programs have it."""
    pytest.importorskip("tensorboard")
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    root = tmp_path / "multirun/2026-01-01"
    for number, rate in enumerate(("1e-3", "0.01")):
        folder = root / str(number)
        (folder / ".hydra").mkdir(parents=True)
        (folder / ".hydra/config.yaml").write_text(
            f"optimizer:\n  lr: {rate}\n  betas: [0.9, 1e-2]\nseed: 3\n"
            "when: 2026-01-01\nclip: .inf\n"
        )
        (folder / "log.jsonl").write_text('{"epoch": 0, "loss": 2}\n{"epoch": 1, "loss": 0.5}')
        (folder / "train.log").write_text("start\nepoch 0 loss 0.25\nEpoch 1 loss nan\n")
        (folder / "checkpoint-2").mkdir()
        (folder / "checkpoint-2/trainer_state.json").write_text(
            json.dumps({"log_history": [{"step": 1, "loss": 0.75}, {"step": 2, "eval_loss": 1}]})
        )
        writer = EventFileWriter(str(folder / "tb"))
        for step in range(3):
            value = Summary.Value(tag="loss", simple_value=1 / (step + 1))
            writer.add_event(Event(step=step, summary=Summary(value=[value])))
        writer.close()
    where = {"config": ".hydra/config.yaml", "runs": "*/*"}
    for number, (metrics, more, expected) in enumerate(
        [
            ("*.jsonl", (), 0.5),
            ("output: epoch {epoch} loss {loss}", ("--output", "train.log"), 0.25),
            ("trainer_state.json", (), 0.75),
            ("tensorboard", (), pytest.approx(1 / 3)),
        ]
    ):
        name = f"theirs{number}"
        code, out, err = adopt(root.parent, *more, name=name, metrics=metrics, **where)
        assert code == 0, err
        assert "they differ in optimizer.lr, seed: seed" in out
        found = rows_of(tmp_path / "results", name)
        assert [run["objective"] for run in found] == [expected] * 2
        assert [run["config.optimizer.lr"] for run in found] == [0.001, 0.01]
        assert found[0]["config.optimizer.betas"] == "0.9,0.01"
        assert found[0]["config.clip"] == "inf" and found[0]["config.when"] == "2026-01-01"


def test_values_of_a_name(tmp_path: Path, adopt: Callable[..., Said]) -> None:
    for name in ("vit-lr0.1-bs32-seed1", "dla-lr0.1-bs32-seed1"):
        make(tmp_path / "runs", name, {}, [0.5])
    code, out, _ = adopt(tmp_path / "runs", config="name")
    assert code == 0 and "they differ in label, seed: seed" in out


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("lr=0.1,bs=32", {"lr": 0.1, "bs": 32}),
        ("lr0.1-bs32", {"lr": 0.1, "bs": 32}),
        ("lr_1e-3_weight_decay_0.01", {"lr": 1e-3, "weight_decay": 0.01}),
        ("weight_decay=1e-3_lr=0.1-amp=true", {"weight_decay": 1e-3, "lr": 0.1, "amp": True}),
        ("a/optimizer.lr=0.1/seed=3", {"optimizer": {"lr": 0.1}, "seed": 3}),
        ("resnet18-lr0.5", {"resnet": 18, "lr": 0.5}),
        ("baseline", {}),
        ("=1", {}),
    ],
)
def test_names_are_read(name: str, values: dict[str, Any]) -> None:
    assert values_of_name(Path(name)) == values


def test_configurations_are_read(tmp_path: Path) -> None:
    def read(name: str, content: str) -> dict[str, Any]:
        (tmp_path / name).write_text(content)
        return values_in(tmp_path / name)

    assert read("a.toml", "[net]\ndepth = 2\n") == {"net": {"depth": 2}}
    assert read("a.json", '{"net.depth": 2, "net": {"width": [1, {"a": NaN}]}}') == {
        "net": {"depth": 2, "width": [1, {"a": "nan"}]}
    }
    wandb = "wandb_version: 1\n_wandb: {value: {x: 1}}\nlr: {desc: null, value: 1e-3}\n"
    assert read("w.yaml", wandb) == {"lr": 0.001}
    assert read("s.json", '{"wandb_api_key": "abcdef", "max_tokens": 5}') == {
        "wandb_api_key": "***", "max_tokens": 5,
    }  # fmt: skip
    laughs = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{two}: &{two} [{', '.join([f'*{one}'] * 9)}]\n"
        for one, two in zip("abcdefghi", "bcdefghij", strict=True)
    )
    for name, content, what in (
        ("b.yaml", laughs, "more than 10000 values"),
        ("c.yaml", "a: &a [*a]\n", "nested too deep"),
        ("d.yaml", "!!python/object/apply:os.system ['true']\n", "could not determine"),
        ("e.json", "[" * 100_000, "cannot be read"),
        ("f.json", json.dumps({"a": "x" * 20_000}), "more than 10000 characters"),
        ("g.json", '{"a": "\\ud800"}', "not a valid text"),
        ("h.json", "{" + '"a": {' * 30 + "}" * 31, "deep"),
        ("i.json", '{"a": 1' + "0" * 5000 + "}", "cannot be read"),
        ("j.json", '{"": 1}', "is not a field's name"),
    ):
        with pytest.raises(InputError, match=what):
            read(name, content)
    assert foreign_config.FROM_NAME == "name"


def test_a_cut_line_is_no_row(tmp_path: Path, adopt: Callable[..., Said]) -> None:
    """As a program that was killed leaves it."""
    make(tmp_path / "runs", "one", {"lr": 1}, [], "epoch,loss\n0,0.5\n1,0.1")
    make(tmp_path / "runs", "two", {"lr": 2}, [float("nan")])
    code, _, err = adopt(tmp_path / "runs")
    assert code == 0 and "its last line has no end, and is left out" in err
    found = rows_of(tmp_path / "results")
    assert found[0]["objective"] == 0.5 and str(found[1]["objective"]) == "nan"


def test_complete_runs_alone(runs: Path, adopt: Callable[..., Said]) -> None:
    (runs / "lr0.1-seed0/done").touch()
    code, out, err = adopt(runs, "--done", "done")
    assert code == 1 and "1 run: 1 new, 0 as they were, 3 left out" in out
    assert "is not complete: it has no done" in err


def test_fields_that_are_ignored(runs: Path, tmp_path: Path, adopt: Callable[..., Said]) -> None:
    code, _, _ = adopt(runs, "--ignore", "net", "--ignore", "epochs")
    assert code == 0
    assert "config.net.depth" not in rows_of(tmp_path / "results")[0]


@pytest.mark.long
def test_two_calls_at_once_enter_each_run_once(runs: Path, tmp_path: Path) -> None:
    words = [
        sys.executable, "-m", "sweeps.adopt", str(runs), *WORDS,
        "--results", str(tmp_path / "results"),
    ]  # fmt: skip
    both = [subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE) for _ in range(2)]
    said = [one.communicate(timeout=60)[1].decode() for one in both]
    assert "Traceback" not in "".join(said) and {one.returncode for one in both} <= {0, 1}
    assert subprocess.run(words, cwd=ROOT, check=False).returncode == 0
    found = rows_of(tmp_path / "results")
    assert len(found) == 4 and len(list((tmp_path / "results").rglob(RUN))) == 4
    assert all(pq.read_table(path).num_rows == 1 for path in (tmp_path / "results").rglob(RUN))


def test_an_update_that_fails_leaves_what_was_adopted(
    runs: Path, tmp_path: Path, adopt: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    adopt(runs)
    before = rows_of(tmp_path / "results")
    (runs / "lr0.1-seed0/metrics.csv").write_text(csv_of([0.5]))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "x")

    with monkeypatch.context() as patch:
        patch.setattr(tables, "write_run", full)
        assert adopt(runs, "--update")[0] == 3
    assert str(rows_of(tmp_path / "results")) == str(before)
    assert "0 new, 3 as they were, 1 updated" in adopt(runs, "--update")[1]
    assert str(rows_of(tmp_path / "results")) != str(before)


def test_a_cell_of_any_length_is_read(runs: Path, adopt: Callable[..., Said]) -> None:
    text = f'epoch,loss,layers\n0,1.0,"[{"0.5, " * 50_000}0]"\n1,0.5,\n'
    (runs / "lr0.1-seed0/metrics.csv").write_text(text)
    code, out, err = adopt(runs)
    assert code == 0 and "4 new" in out, err
