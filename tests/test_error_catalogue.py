"""The errors that a person meets first, each caused for real: what is wrong and where, then what to
type next; no traceback, no words of a library, and nothing said twice."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_machine.errors import run_command
from sweeps.spec import task_loader

FUNCTION = """
from pydantic import BaseModel, Field
from sweeps import Sweep, grid, minimize

class Config(BaseModel):
    lr: float = Field(0.1, gt=0)
    epochs: int = 2

class Inner(BaseModel):
    n: int

def train(config, run):
    run.log(epoch=0, loss=config.lr)
    Inner(n="not a number")

sweep = Sweep(train, base=Config(), space=grid({"lr": [0.1]}), objective=minimize("loss"))
"""
DEFINITIONS = {
    "good.py": FUNCTION,
    "syntax.py": "sweep = (",
    "raises.py": "sweep = 1 / 0",
    "module.py": "import not_installed_anywhere\nsweep = 1",
    "pydantic.py": FUNCTION + "Config(lr='fast')",
    "range.py": FUNCTION.replace("[0.1]", "[-1.0]"),
    "field.py": FUNCTION.replace('"lr": [', '"lrr": ['),
    "nothing.py": "x = 1",
    "other.py": "sweep = 3",
    "objective.py": FUNCTION.replace(', objective=minimize("loss")', ""),
    "exits.py": "import sys\nsweep = sys.exit(3)",
    "command.py": "from sweeps import Sweep, grid, minimize\n"
    "sweep = Sweep(command='python x.py {lr} {nothing}', base={'lr': 1.0}, "
    "space=grid({'lr': [1.0]}), metrics='m.csv', objective=minimize('loss'))",
}
# Of what is wrong with a point of the space, the error names the point.
IN_SPACE = {"range.py": "at lr=-1.0", "field.py": "at lrr=0.1"}
# The command line, and a word of what and where that the error has to name.
CASES = [
    ("sweeps.launch", "grid_bs_epoh", "grid_bs_epoh"),
    ("sweeps.launch", "missing.py", "missing.py"),
    ("sweeps.launch", "", "no name"),
    ("sweeps.launch", "good.py --scale huge", "--scale"),
    ("sweeps.launch", "good.py --scale smoke", "--scale smoke"),
    ("sweeps.launch", "good.py --sacle smoke", "--sacle"),
    ("sweeps.launch", "good.py --seeds 0", "--seeds"),
    ("sweeps.launch", "good.py --seeds 3", "no seed"),
    ("sweeps.launch", "good.py --set lr", "--set lr"),
    ("sweeps.launch", "good.py --set lr=fast", "fast"),
    ("sweeps.launch", "good.py --set lr=-1", "lr"),
    ("sweeps.launch", "good.py --set rate=1", "rate"),
    ("sweeps.launch", "good.py --set lr=1 --set lr=2", "lr"),
    ("sweeps.launch", "good.py --site nowhere", "nowhere"),
    ("sweeps.launch", "good.py --site broken.toml", "broken.toml"),
    ("sweeps.launch", "good.py --results file", "file"),
    ("sweeps.launch", "good.py --on slurm", "lurm"),
    ("sweeps.launch", "--name x --grid lr=1 --minimize loss -- python x.py {lr}", "measures"),
    ("sweeps.launch", "--name x --metrics m.csv --minimize loss -- python x.py {lr}", "lr"),
    ("sweeps.launch", "--grid lr=1 -- python x.py {lr}", "name"),
    ("sweeps.launch", "--grid lr=1 good.py", "--grid"),
    *(
        ("sweeps.launch", name, IN_SPACE.get(name, name))
        for name in DEFINITIONS
        if name != "good.py"
    ),
    ("sweeps.launch", "broken.json", "broken.json"),
    ("sweeps.search", "weight_decai", "weight_decai"),
    ("sweeps.search", "good.py", "good.py"),
    ("sweeps.study", "cifar11", "cifar11"),
    ("sweeps.study", "cifar10 --from nowhere", "nowhere"),
    ("sweeps.status", "nothing", "nothing"),
    ("sweeps.status", "--results nowhere", "nowhere"),
    ("sweeps.logs", "nothing x", "nothing"),
    ("sweeps.logs", "done zzz", "zzz"),
    ("sweeps.retry", "nothing", "nothing"),
    ("sweeps.cancel", "nothing", "nothing"),
    ("sweeps.note", "done/zzz word", "zzz"),
    ("sweeps.tag", "nothing word", "nothing"),
    ("sweeps.exclude", "done/zzz --reason x", "zzz"),
    ("sweeps.verify", "nothing", "nothing"),
    ("sweeps.compact", "nothing", "nothing"),
    ("sweeps.adopt", "nowhere --name x --metrics m.csv --config c.json --minimize l", "nowhere"),
    ("sweeps.doctor", "--site nowhere", "nowhere"),
    ("analysis.report", "--results nowhere", "nowhere"),
    ("analysis.report", "nothing", "nothing"),
    ("analysis.export", "nothing --to csv out", "nothing"),
    ("trainer", "missing.json out", "missing.json"),
    ("trainer", "broken.json out", "broken.json"),
    ("trainer", "range.json out", "batch_size"),
]
NEVER = re.compile(
    r"Traceback|errors\.pydantic\.dev|\[type=|input_value|validation error|this is a bug|"
    r" at 0x[0-9a-f]+|<class '|NoneType|\bErrno\b"
)
# What a person is told to do: a verb, a command or an option.
NEXT = re.compile(
    r"\b(python|sweeps|pip|mv|rm|make|give|use|write|name|choose|put|launch|fix|add|say|drop|leave|"
    r"install|see|correct|did you mean|boot|end|set|call|it must hold|look|known by name|ask|has|"
    r"lists|must)\b|--[a-z]|\.toml|\{"
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """With every definition, a sweep with a failed trial, and what is broken."""
    home = tmp_path_factory.mktemp("home")
    for name, text in DEFINITIONS.items():
        (home / name).write_text(text)
    (home / "done.py").write_text(FUNCTION)
    (home / "broken.json").write_text("{")
    (home / "range.json").write_text(json.dumps({"batch_size": -1}))
    (home / "broken.toml").write_text("partition = ")
    (home / "file").write_text("")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("PATH", os.defpath)
        patch.delenv("SLURM_CONF", raising=False)
        yield home


def typed(
    command: str, line: str, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, list[str]]:
    """The exit code, stdout, and the lines of stderr."""
    is_package = hasattr(module := importlib.import_module(command), "__path__")
    app = importlib.import_module(f"{command}.__main__").app if is_package else module.app
    for known in (task_loader._tried, task_loader._of_classes):
        known.clear()  # type: ignore[attr-defined]
    with pytest.raises(SystemExit) as end:
        run_command(app, shlex.split(line))
    said = capsys.readouterr()
    assert isinstance(end.value.code, int)
    return end.value.code, said.out, said.err.splitlines()


@pytest.fixture(scope="module")
def failed(home: Path) -> Path:
    with pytest.raises(SystemExit):
        run_command(importlib.import_module("sweeps.launch").app, ["done.py", "--on", "local"])
    return home / "results" / "done"


@pytest.mark.long
@pytest.mark.usefixtures("failed")
@pytest.mark.parametrize(("command", "line", "where"), CASES, ids=lambda text: str(text)[:40])
def test_each_error_says_what_and_where_and_what_to_type_next(
    home: Path, capsys: pytest.CaptureFixture[str], command: str, line: str, where: str
) -> None:
    code, out, said = typed(command, line, capsys)
    assert code in (2, 3) and not out, (code, out, said)
    # What is wrong with the user's own file may be warned of before.
    error, advice = said[-2:]
    assert error.startswith("error: ") and advice.startswith("help: "), said
    assert where in error, error
    assert NEXT.search(advice.removeprefix("help: ")), advice
    assert not NEVER.search("\n".join(said)), said
    assert len(error) < 600 and len(advice) < 600


def test_a_failing_function_shows_its_traceback_once(
    failed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From its own first line on, in the log; a list has one line of it."""
    capsys.readouterr()
    code, shown, _ = typed("sweeps.logs", "done lr", capsys)
    assert code == 0
    assert shown.count("Traceback") == 1
    assert "execution/worker.py" not in shown and "function_task.py" not in shown
    assert f'File "{failed.parents[1] / "done.py"}"' in shown or 'File "done.py"' in shown
    assert "errors.pydantic.dev" not in shown
    _, table, said = typed("sweeps.status", "done", capsys)
    assert "Traceback" not in table + "\n".join(said)
    assert "n='not a number': input should be a valid integer" in table
    _, grouped, _ = typed("sweeps.status", "done --failures", capsys)
    assert grouped.count("Traceback") == 1 and "errors.pydantic.dev" not in grouped
