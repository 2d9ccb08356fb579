"""Small projects of a person's own, whose code a launch captures."""

from __future__ import annotations

import subprocess
from pathlib import Path

EXPERIMENT = """
from dataclasses import dataclass
from pathlib import Path

from sweeps import Sweep, grid, maximize

from lib import scores


@dataclass
class Config:
    lr: float = 0.1
    epochs: int = 1


def train(config, run):
    for epoch in range(config.epochs):
        run.log(epoch=epoch, score=scores.BASE * config.lr)
    return {"table": float(Path("table.txt").read_text())}


sweep = Sweep(
    train, base=Config(), space=grid({"lr": [LR]}), objective=maximize("score")
)
"""


def written(project: Path, trials: int = 1) -> Path:
    """A project with a definition, a module and a file that it opens."""
    (project / "lib").mkdir(parents=True)
    rates = ", ".join(str(number / 100) for number in range(1, trials + 1))
    (project / "experiment.py").write_text(EXPERIMENT.replace("LR", rates))
    (project / "lib" / "__init__.py").touch()
    (project / "lib" / "scores.py").write_text("BASE = 1.0\n")
    (project / "table.txt").write_text("5\n")
    return project


def commit_all(project: Path) -> str:
    """Everything that git does not ignore; the commit."""
    if not (project / ".git").exists():
        git(project, "init", "--quiet")
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--allow-empty", "--message", "work")
    return git(project, "rev-parse", "HEAD").strip()


def git(folder: Path, *words: str) -> str:
    person = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", "-C", str(folder), *person, *words], capture_output=True, text=True, check=True
    )
    return done.stdout
