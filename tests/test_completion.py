"""What Tab offers behind `sweeps`, and the list of what can be launched by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps.__main__ import COMMANDS
from sweeps.spec import catalogue

ROOT = Path(__file__).parent.parent
OF_COMMAND_LINE = '"""Mine."""\nfrom sweeps import Sweep\nsweep = Sweep(...)\n'


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a sweep that has two trials, one of them without a folder, and a file of its own."""
    home = tmp_path_factory.mktemp("home")
    plans = home / "results" / "mine" / "plans"
    plans.mkdir(parents=True)
    (plans / "0123abcd.json").write_text(json.dumps({"trials": [{"name": "a-1"}, {"name": "b-2"}]}))
    (home / "results" / "mine" / "mine.py").write_text(OF_COMMAND_LINE)
    (home / "elsewhere" / "other" / "plans").mkdir(parents=True)
    return home


def sweeps(home: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sweeps", *words], cwd=home, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip


def offered(home: Path, line: str) -> list[str]:
    """Of the last word of the line, as bash asks."""
    words = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    done = sweeps(home, **words, _SWEEPS_COMPLETE="complete_bash")
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.split()


@pytest.mark.long
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("sweeps st", ["study", "status"]),
        ("sweeps launch gr", ["grid_bs_epoch"]),
        ("sweeps launch mi", ["mine", "mixup"]),
        ("sweeps launch mine --see", ["--seeds"]),
        ("sweeps launch mine --scale s", ["smoke"]),
        ("sweeps launch mine --site d", ["default", "dev_cluster"]),
        ("sweeps search weight_decay_", ["weight_decay_wrn"]),
        ("sweeps study ", ["cifar10"]),
        ("sweeps status ", ["mine"]),
        ("sweeps status --results elsewhere ", ["other"]),
        ("sweeps report ", ["mine"]),
        ("sweeps logs mine ", ["a-1", "b-2"]),
        ("sweeps logs nothing ", []),
        ("sweeps note m", ["mine"]),
        ("sweeps note mine/b", ["mine/b-2"]),
        ("sweeps verify mine --trial ", ["a-1", "b-2"]),
    ],
)
def test_tab_offers_what_may_stand_there(home: Path, line: str, words: list[str]) -> None:
    assert offered(home, line) == words


def test_bash_completes_by_the_script(home: Path) -> None:
    program = home / "bin" / "sweeps"
    program.parent.mkdir()
    program.write_text(f'#!/bin/bash\nexec {sys.executable} -m sweeps "$@"\n')
    program.chmod(0o755)
    line = (
        'eval "$(sweeps --show-completion bash)"; COMP_WORDS=(sweeps logs mine b); COMP_CWORD=3; '
        '_sweeps_completion sweeps; echo "${COMPREPLY[@]}"'
    )
    path = f"{program.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", line], cwd=home, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": path},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("b-2\n", "")


@pytest.mark.long
def test_every_command_can_be_completed(home: Path) -> None:
    """Each has an application by the name that completion asks for."""
    for name in COMMANDS:
        assert "--help" in offered(home, f"sweeps {name} --he"), name


def test_the_list_has_every_definition_with_what_it_is_for(home: Path) -> None:
    done = sweeps(home, "list", "--json")
    found = json.loads(done.stdout)["definitions"]
    assert {one["kind"] for one in found} == {"sweep", "search", "study"}
    about = {(one["kind"], one["name"]): one["about"] for one in found}
    assert about["sweep", "mine"] == "Mine."
    assert all(about.values())
    files = [*catalogue.DEFINITIONS.rglob("[!_]*.py"), *catalogue.STUDIES.glob("[!_]*.py")]
    assert {path.stem for path in files} | {"mine"} == {one["name"] for one in found}
    shown = sweeps(home, "list")
    assert "Batch size x epochs on DLA-34" in shown.stdout
    assert shown.stderr.startswith("next: sweeps launch NAME --dry-run")


def test_the_list_runs_no_definition_and_survives_a_broken_one(tmp_path: Path) -> None:
    for name, text in (("bad", "sweep = ("), ("exits", "sweep = 1\nraise SystemExit(3)\n")):
        (tmp_path / "results" / name).mkdir(parents=True)
        (tmp_path / "results" / name / f"{name}.py").write_text(text)
    done = sweeps(tmp_path, "list", "--json")
    assert done.returncode == 0 and not done.stderr
    assert "exits" in {one["name"] for one in json.loads(done.stdout)["definitions"]}
