"""Sweeps and searches that are given on the command line: what they run, write and refuse."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_machine.errors import InputError
from sweeps import Search, Sweep
from sweeps.spec.find import find, find_search
from sweeps.spec.loader import load
from sweeps.without_file.definition import Definition, search_of, sweep_of
from sweeps.without_file.typed_values import ranges_of, single_values, values_of
from sweeps.without_file.words import SearchWords, SweepWords

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.usefixtures("forked")

TRAIN = """
import json, os, sys
words = sys.argv[1:]
out = os.environ["SWEEPS_FOLDER"]
with open(f"{out}/words", "w") as file:
    json.dump([*words, os.environ.get("SWEEPS_SEED")], file)
with open(f"{out}/m.jsonl", "w") as file:
    for epoch in range(2):
        file.write(json.dumps({"epoch": epoch, "loss": len(words) / (epoch + 1)}) + "\\n")
"""
MEASURED = ("--metrics", "m.jsonl", "--minimize", "loss")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text(TRAIN)
    return tmp_path


def refused(act: Callable[[], object]) -> InputError:
    with pytest.raises(InputError) as caught:
        act()
    return caught.value


def run(home: Path, module: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *words], cwd=home, capture_output=True, text=True,
        check=False, timeout=100, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def launch(home: Path, line: str, *behind: str) -> subprocess.CompletedProcess[str]:
    more = ("--on", "local", "--workers", "1") if "--dry-run" not in line else ("--on", "local")
    words = shlex.split(line)
    return run(home, "sweeps.launch", *words, *more, *(("--", *behind) if behind else ()))


def told(home: Path, name: str) -> list[list[Any]]:
    return sorted(
        json.loads(path.read_text()) for path in (home / "results" / name).glob("*/files/words")
    )


@pytest.mark.long
def test_a_command_line_is_a_sweep(home: Path) -> None:
    line = "--name one --grid lr=0.1,1e-2 --set opt=sgd --metrics m.jsonl --minimize loss"
    behind = ("python", "train.py", "--lr", "{lr}", "a b {opt}")
    done = launch(home, line, *behind)
    assert done.returncode == 0, done.stderr
    assert told(home, "one") == [
        ["--lr", "0.01", "a b sgd", "0"],
        ["--lr", "0.1", "a b sgd", "0"],
    ]
    (row,) = pq.read_table(next((home / "results/one").glob("lr0.1-*/run.parquet"))).to_pylist()
    assert row["objective"] == 1.5
    definition = home / "results/one/one.py"
    text = definition.read_text()
    # The same again, by the words, by the name and by the path.
    for again in (
        launch(home, line, *behind),
        launch(home, "one"),
        launch(home, "results/one/one.py"),
    ):
        assert again.returncode == 0, again.stderr
        assert "2 done; 0 to run" in again.stderr
    assert definition.read_text() == text
    assert len(list((home / "results/one/plans").glob("*.json"))) == 1
    assert run(home, "sweeps.status", "one").returncode == 0
    assert run(home, "sweeps.verify", "one", "--trials", "1").returncode == 0
    assert run(home, "sweeps.retry", "one", "--on", "local").returncode == 0
    assert run(home, "sweeps.compact", "one").returncode == 0
    assert "2 done; 0 to run" in launch(home, "one").stderr


@pytest.mark.long
def test_other_values_under_the_same_name_are_another_plan(home: Path) -> None:
    line = "--name one --metrics m.jsonl --minimize loss --grid lr="
    assert launch(home, f"{line}1,2", "python", "train.py", "{lr}").returncode == 0
    before = (home / "results/one/one.py").read_text()
    done = launch(home, f"{line}2,3 --seeds 2", "python train.py {lr}")
    assert done.returncode == 0, done.stderr
    assert "4 trials: 3 pending, 1 done; 3 to run" in done.stderr
    assert "results/one/one.py is new; as it was before: results/one/one.py.before" in done.stderr
    assert (home / "results/one/one.py.before").read_text() == before
    assert len(list((home / "results/one/plans").glob("*.json"))) == 2
    assert told(home, "one") == [["1", "0"], ["2", "0"], ["2", "1"], ["3", "0"], ["3", "1"]]
    assert "4 done; 0 to run" in launch(home, "one").stderr  # it has the seeds, too


def test_a_dry_run_and_a_refused_launch_write_nothing(home: Path) -> None:
    line = "--name one --metrics m.jsonl --minimize loss --grid lr=1,2"
    dry = launch(home, f"{line} --dry-run --json", "python", "train.py", "{lr}")
    assert json.loads(dry.stdout)["counts"]["pending"] == 2
    assert launch(home, line, "python", "missing.py", "{lr}").returncode == 2
    assert not (home / "results").exists()


def test_options_of_the_command_are_its_own(home: Path) -> None:
    """Such as --debug, --json and --help, which ours have too."""
    line = "--name one --metrics m.jsonl --minimize loss"
    behind = ("python", "train.py", "--debug", "--json", "--help", "--", "--name", "x")
    done = launch(home, line, *behind)
    assert done.returncode == 0, done.stderr
    assert told(home, "one") == [[*behind[2:], "0"]]
    (plan,) = (home / "results/one/plans").glob("*.json")
    typed = json.loads(plan.read_text())["command"]
    assert typed == f"python -m sweeps.launch {line} --on local --workers 1 -- {' '.join(behind)}"


@pytest.mark.long
def test_args_follow_as_options(home: Path) -> None:
    line = "--name one --metrics m.jsonl --maximize loss:last --args"
    axes = "--grid model.lr=1,2 --set flag=true"
    assert launch(home, f"{line} hydra {axes}", "python", "train.py").returncode == 0
    assert told(home, "one") == [
        ["model.lr=1", "flag=true", None],
        ["model.lr=2", "flag=true", None],
    ]
    done = launch(
        home, f"{line.replace('one', 'two')} argparse {axes} --seeds 2", "python", "train.py"
    )
    assert done.returncode == 0, done.stderr
    assert told(home, "two")[0] == ["--model.lr", "1", "--flag", "--seed", "0", "0"]


@pytest.mark.long
def test_a_command_line_is_a_search(home: Path) -> None:
    words = shlex.split(
        "--name s --float lr=1e-3..1:log --int n=1..4 --choice opt=sgd,adam --trials 3 "
        "--pruner none --metrics m.jsonl --minimize loss --on local --workers 1"
    )
    behind = ("--", "python", "train.py", "{lr}", "{n}", "{opt}")
    done = run(home, "sweeps.search", *words, *behind)
    assert done.returncode == 0, done.stderr
    assert len(told(home, "s")) == 3
    again = run(home, "sweeps.search", "s", "--on", "local", "--workers", "1")
    assert "3 of 3 trials asked before" in again.stderr
    _, search = find_search("s", home / "results")
    assert {key: str(values) for key, values in search.space.items()} == {
        "lr": "log_uniform(0.001, 1)",
        "n": "integers(1, 4)",
        "opt": "choice(['sgd', 'adam'])",
    }
    assert (search.trials, search.pruner) == (3, "none")
    other = launch(home, "s")
    assert other.returncode == 2
    assert "has no `sweep` in it" in other.stderr
    assert "python -m sweeps.search results/s/s.py" in other.stderr
    other = launch(home, "--name s --metrics m.jsonl --minimize loss", "python", "train.py")
    assert "s is not a sweep" in other.stderr


@pytest.mark.long
@pytest.mark.parametrize(
    ("line", "behind", "what", "advice"),
    [
        ("--name x --grid lr=1,2", (), "there is no -- with a command", "-- python train.py"),
        ("--name=x", (), "--name is given", "-- python train.py"),
        ("", (), "nothing says what to run", "--name NAME"),
        ("mine", ("true",), "mine stands beside a command", "--name mine"),
        ("--metrics m.jsonl --minimize x", ("true",), "has no name", "--name NAME"),
        ("--name x --minimize x", ("true",), "writes what it measures", "--metrics metrics.jsonl"),
        ("--name x --metrics m.jsonl", ("true",), "what is compared", "--minimize val_loss"),
        (f"--name x {' '.join(MEASURED)} --maximize b", ("true",), "--minimize with", "one"),
        ("--name x --metrics m.jsonl --minimize :last", ("true",), "has no name", "val_loss"),
        ("--name x --metrics m.txt --minimize a", ("true",), "not a kind of file", "jsonl"),
        ("--name a/b --metrics m.jsonl --minimize a", ("true",), "not a valid name", "letters"),
        ("--name x.py --metrics m.jsonl --minimize a", ("true",), "a file's name", "--name x"),
        ("--name mixup --metrics m.jsonl --minimize a", ("true",), "part of sweeps", "another"),
        ("--name cifar10 --metrics m.jsonl --minimize a", ("true",), "part of sweeps", "another"),
        (f"--name x {' '.join(MEASURED)}", ("python", "{lr}"), "placeholder {lr}", "--set lr=V"),
        (f"--name x {' '.join(MEASURED)}", ("python", "{lr"), "'{'", "{{ and }}"),
        (f"--name x --grid lr=1 {' '.join(MEASURED)}", ("true",), "'lr'", "--args argparse"),
        (f"--name x --grid lr {' '.join(MEASURED)}", ("true",), "--grid lr", "NAME=V,V"),
        (f"--name x --grid lr=1,,2 {' '.join(MEASURED)}", ("true",), "empty", "comma"),
        (f"--name x --grid a=1 --grid a=2 {' '.join(MEASURED)}", ("true",), "twice", "once"),
        (f"--name x --grid a=1 --set a=2 {' '.join(MEASURED)}", ("true",), "varied", "once"),
        (f"--name x --args click {' '.join(MEASURED)}", ("true",), "args is 'click'", "argparse"),
        (f"--name x --processes all {' '.join(MEASURED)}", ("true",), "processes", "per_node"),
        (f"--name x --stop-signal KILL {' '.join(MEASURED)}", ("true",), "stop_signal", "USR1"),
    ],
)  # fmt: skip
def test_what_is_refused(
    home: Path, line: str, behind: tuple[str, ...], what: str, advice: str
) -> None:
    done = launch(home, line, *behind)
    error, help_line = done.stderr.splitlines()
    assert done.returncode == 2
    assert error.startswith("error: ") and what in error
    assert help_line.startswith("help: ") and advice in help_line
    assert not (home / "results").exists()


def test_nothing_behind_the_dashes(home: Path) -> None:
    done = run(home, "sweeps.launch", "--name", "x", *MEASURED, "--")
    assert "there is nothing behind --" in done.stderr


def test_the_name_of_a_definition_file_is_taken(home: Path) -> None:
    (home / "mine.py").write_text(
        'from sweeps import Sweep, minimize\nsweep = Sweep(command="python train.py {x}", '
        'base={"x": 1}, metrics="m.jsonl", objective=minimize("loss"))\n'
    )
    assert launch(home, "mine.py").returncode == 0
    done = launch(home, "--name mine --metrics m.jsonl --minimize loss", "python", "train.py")
    assert done.returncode == 2
    assert "results/mine has trials of a definition file that is called mine" in done.stderr


def test_a_definition_that_anybody_may_have_written_is_not_run_by_its_name(home: Path) -> None:
    assert launch(home, f"--name x {' '.join(MEASURED)}", "python", "train.py").returncode == 0
    path = home / "results/x/x.py"
    path.chmod(0o666)
    done = launch(home, "x")
    assert done.returncode == 2
    assert "another user may have written results/x/x.py" in done.stderr
    assert launch(home, "results/x/x.py").returncode == 0


def test_what_values_are_typed_as() -> None:
    def typed(text: str) -> list[Any]:
        return values_of("--grid", [f"x={text}"])["x"]

    for text, values in {
        "3,-4": [3, -4],
        "0.1,1e-3,.5,-2.": [0.1, 0.001, 0.5, -2.0],
        "1,0.5": [1.0, 0.5],
        "true,false": [True, False],
        "sgd,adam": ["sgd", "adam"],
        "1,many": ["1", "many"],
        "true,1": ["true", "1"],
        "True,none": ["True", "none"],
        '"3",\'4\',"a,b",\'c,"d\',""': ["3", "4", "a,b", 'c,"d', ""],
        '"a\\"b\\n",x"y,z': ['a"b\n', 'x"y', "z"],
        "[0.9, 0.99],[1,2]": [[0.9, 0.99], [1, 2]],
        "[a,b],c": ["[a,b]", "c"],
        "007,1_000,1e999,nan": ["007", "1_000", "1e999", "nan"],
        "a=b": ["a=b"],
    }.items():
        found = typed(text)
        assert found == values, text
        assert list(map(type, found)) == list(map(type, values)), text
    assert single_values({"x": "a,b", "y": "3"}) == {"x": "a,b", "y": 3}


@pytest.mark.parametrize("word", ["x=1", "x=1..", "x=a..b", "x=0...5", "x=1..2..3", "x=1..2:lin"])
def test_what_is_not_a_range(word: str) -> None:
    assert word in refused(lambda: ranges_of("--float", [word], whole=False)).what


def test_ranges() -> None:
    found = ranges_of("--float", ["a=1..2", "b=1e-5..1e-1:log", "c=-1...0"][:2], whole=False)
    assert [str(one) for one in found.values()] == ["uniform(1, 2)", "log_uniform(1e-05, 0.1)"]
    found = ranges_of("--int", ["a=-1..2", "b=1..64:log"], whole=True)
    assert [str(one) for one in found.values()] == ["integers(-1, 2)", "log_integers(1, 64)"]
    refused(lambda: ranges_of("--int", ["a=1..2.5"], whole=True))
    refused(lambda: ranges_of("--float", ["a=2..1"], whole=False))


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
PLAIN = st.one_of(
    TEXT, st.integers(-(2**60), 2**60), st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
)  # fmt: skip
NAMES = st.sampled_from(["lr", "a-b", "opt.lr", "opt.name", "x", "clé"])


def as_typed(value: Any) -> str:
    if isinstance(value, str | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value).lower() if isinstance(value, bool) else repr(value)


def loaded(folder: Path, made: Definition[Any], kind: type[Any]) -> Any:
    path = folder / f"{made.name}.py"
    path.write_text(made.text)
    return load(path, kind.__name__.lower(), kind)


def assert_equal(one: Any, other: Any) -> None:
    assert one == other or vars(one) | {"task": 0} == vars(other) | {"task": 0}
    assert one.task.planned == other.task.planned
    # 1 and 1.0 and True are not the same value.
    assert repr((one.base, one.space)) == repr((other.base, other.space))


@settings(max_examples=150, deadline=None)
@given(
    axes=st.dictionaries(NAMES, st.lists(PLAIN, min_size=1, max_size=3), max_size=3),
    fixed=st.dictionaries(NAMES, TEXT, max_size=3),
    words=st.lists(TEXT, min_size=1, max_size=3),
    metric=st.text("ab'\"\\\n:{}", min_size=1, max_size=6).map(lambda text: f"m{text}"),
    seeds=st.sampled_from([None, 1, 3]),
)
def test_the_file_is_the_same_sweep(
    tmp_path_factory: pytest.TempPathFactory,
    axes: dict[str, list[Any]],
    fixed: dict[str, str],
    words: list[str],
    metric: str,
    seeds: int | None,
) -> None:
    folder = tmp_path_factory.mktemp("written")
    fixed = {key: text for key, text in fixed.items() if key not in axes}
    behind = ["python", *(word.replace("{", "{{").replace("}", "}}") for word in words)]
    behind += [f"{{{name}}}" for name in (*axes, *fixed)]
    typed = SweepWords(
        called="w", metrics=["m.jsonl"], minimize=metric, grace=2,
        done=words[0].strip("/. ") or None,
        grid=[f"{key}={','.join(map(as_typed, values))}" for key, values in axes.items()],
    )  # fmt: skip
    made = sweep_of(typed, behind, {k: as_typed(v) for k, v in fixed.items()}, seeds, folder)
    assert_equal(made.made, loaded(folder, made, Sweep))
    for key, values in axes.items():
        if len({type(value) for value in values}) == 1:
            assert {repr(point[key]) for point in made.made.space} == {repr(v) for v in values}
    for key, text in fixed.items():
        *sections, leaf = key.split(".")
        place = made.made.base
        for section in sections:
            place = place[section]
        assert place[leaf] == text


@pytest.mark.long
@settings(max_examples=50, deadline=None)
@given(
    low=st.floats(1e-300, 1e300), high=st.floats(1e-300, 1e300), log=st.booleans(),
    choices=st.lists(TEXT, min_size=1, max_size=3, unique=True),
    whole=st.integers(1, 2**40),
)  # fmt: skip
def test_the_file_is_the_same_search(
    tmp_path_factory: pytest.TempPathFactory,
    low: float,
    high: float,
    log: bool,
    choices: list[str],
    whole: int,
) -> None:
    folder = tmp_path_factory.mktemp("written")
    if low == high:
        high = 2 * low
    typed = SearchWords(
        called="w", metrics=["m.jsonl"], maximize="acc:last",
        floats=[f"a={min(low, high)!r}..{max(low, high)!r}{':log' * log}"],
        ints=[f"b={-whole}..{whole}"], choices=[f"c.d={','.join(map(as_typed, choices))}"],
    )  # fmt: skip
    made = search_of(typed, ["python train.py {a} {b} {c.d}"], {}, {"trials": 7}, folder)
    assert_equal(made.made, loaded(folder, made, Search))


def test_the_file_is_as_ruff_formats_it(tmp_path: Path) -> None:
    words = SweepWords(
        called="w", metrics=["m.jsonl"], minimize="loss", grid=["lr=0.1,1e-3", "opt=a'b,c\"d"]
    )
    made = sweep_of(words, ["python train.py {lr} {opt}"], {}, None, tmp_path)
    path = tmp_path / "w.py"
    path.write_text(made.text)
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--isolated", "--diff", path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


PROGRAM = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("-l", "--lr", type=float, default=0.2)
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--fast", action="store_true")
parser.add_argument("--output-dir", required=True)
parser.add_argument("--seed", type=int)
open("ran", "w")
"""


def test_a_program_is_not_run_as_a_definition(home: Path) -> None:
    (home / "prog.py").write_text(PROGRAM)
    done = launch(home, "prog.py")
    assert done.returncode == 2
    assert not (home / "ran").exists()
    error, help_line = done.stderr.splitlines()
    assert error == "error: prog.py has no `sweep` in it, so it was not run"
    example = help_line.partition("by its command line: ")[2]
    assert example == (
        "python -m sweeps.launch --name prog --grid lr=0.2,0.02 --set batch_size=64 --metrics "
        "metrics.jsonl --minimize loss -- python prog.py --lr {lr} --batch-size {batch_size} "
        "--output-dir {folder} --seed {seed}"
    )
    # What it says can be typed.
    done = run(home, "sweeps.launch", *shlex.split(example)[3:5], "--dry-run",
               *shlex.split(example)[5:])  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "2 trials: 2 pending" in done.stderr
    assert "python -m sweeps.search --name prog --float lr=" in run(
        home, "sweeps.search", "prog.py"
    ).stderr  # fmt: skip


def test_a_module_that_trains_when_it_is_imported_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sweeps.spec.slow_import.SECONDS", 0.1)
    (home / "trains.py").write_text("import time\ndef f():\n    time.sleep(0.5)\nf()\n")
    (home / "slow.py").write_text(
        "import trains\nfrom sweeps import Sweep, minimize\n"
        'sweep = Sweep(command="true", metrics="m.jsonl", objective=minimize("x"))\n'
    )
    find(str(home / "slow.py"))
    said = capfd.readouterr().err
    lines = said.splitlines()
    assert 1 <= len(lines) <= 4
    assert lines[0].startswith(f"still importing {home}/trains.py, for {home}/slow.py: 0.1 s")


@pytest.mark.long
@pytest.mark.parametrize("program", ["sweeps", "-m"])
def test_one_program_for_all_commands(home: Path, program: str) -> None:
    script = home / "bin/sweeps"
    script.parent.mkdir()
    script.write_text("import sys\nfrom sweeps.__main__ import main\nsys.exit(main())\n")
    start = ["-m", "sweeps"] if program == "-m" else [str(script)]
    named = "python -m sweeps" if program == "-m" else "sweeps"

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *start, *words], cwd=home, capture_output=True, text=True,
            check=False, timeout=60, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip

    (home / "queue.py").write_text("raise SystemExit('a queue of my own')")
    words = ("launch", "--name", "one", *MEASURED, "--on", "local", "--", "python", "train.py")
    done = call(*words)
    assert done.returncode == 0, done.stderr
    (plan,) = (home / "results/one/plans").glob("*.json")
    assert json.loads(plan.read_text())["command"] == f"{named} {' '.join(words)}"
    assert "1 trial: 1 done" in call("status").stdout
    assert re.fullmatch(r"sweeps \S.*\n", call("--version").stdout)
    assert "  launch  " in call("--help").stdout == call().stdout
    assert f"Usage: {named} status " in call("status", "--help").stdout
    wrong = call("lunch")
    assert wrong.returncode == 2
    assert (
        wrong.stderr == "error: 'lunch' is not a command of sweeps\nhelp: did you mean 'launch'?\n"
    )


@pytest.mark.long
def test_each_launch_is_shown_by_its_own_objective(home: Path) -> None:
    """A trial that both have is compared by each."""
    behind = ("python", "train.py", "{lr}", "{folder}")
    for words in ("lr=1 --minimize loss", "lr=1,2 --maximize loss"):
        done = launch(home, f"--name mine --metrics m.jsonl --grid {words}", *behind)
        assert done.returncode == 0, done.stderr
    shown = run(home, "sweeps.status", "mine").stdout
    assert re.findall(r"best loss (\d)", shown) == ["1", "2"]
    assert re.findall(r"lr\d\S* +done +2/- +(\d)", shown) == ["1", "2", "2"]


def test_a_name_whose_runs_were_adopted_is_refused(home: Path) -> None:
    run_ = home / "runs" / "a"
    run_.mkdir(parents=True)
    (run_ / "config.json").write_text('{"lr": 1}')
    (run_ / "m.jsonl").write_text('{"epoch": 0, "loss": 1}\n')
    words = ("--metrics", "m.jsonl", "--config", "config.json", "--minimize", "loss")
    done = run(home, "sweeps.adopt", "runs", "--name", "theirs", *words)
    assert done.returncode == 0, done.stderr
    line = "--name theirs --grid lr=1 --metrics m.jsonl --minimize loss"
    said = launch(home, line, "python", "train.py", "{lr}")
    assert said.returncode == 2 and "made elsewhere and adopted" in said.stderr


def test_what_is_done_without_a_value_of_the_objective_is_told(home: Path) -> None:
    (home / "mine.py").write_text(
        "from sweeps import Sweep, grid, minimize\n"
        "def train(config, run):\n"
        "    run.log(epoch=0, accuracy=config['lr'])\n"
        "sweep = Sweep(train, base={'lr': 1.0}, space=grid({'lr': [1.0, 2.0]}),\n"
        "    objective=minimize('loss'))\n"
    )
    done = launch(home, "mine.py")
    assert done.returncode == 0
    assert "warning: 2 done without a finite value of loss, the objective" in done.stderr
    (home / "mine.py").write_text((home / "mine.py").read_text().replace("'loss'", "'accuracy'"))
    done = launch(home, "mine.py")
    assert "0 to run" in done.stderr and "warning" not in done.stderr


def test_launched_elsewhere_where_its_script_is_not(home: Path) -> None:
    line = "--name mine --grid lr=1 --metrics m.jsonl --minimize loss"
    first = launch(home, line, "python", "train.py", "{lr}")
    assert first.returncode == 0, first.stderr
    (home / "other").mkdir()
    said = launch(home / "other", "mine --results ../results")
    assert said.returncode == 2 and f"ran {home / 'train.py'} before" in said.stderr
    assert "help: launch from the folder from which that was launched" in said.stderr
