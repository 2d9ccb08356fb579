"""Each example runs as its README says, and what changes in a program is three lines or fewer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forked as forks
import kill_points  # noqa: F401 - what is forked needs it
import lightning  # noqa: F401 - imported once, for all forks
import pyarrow.parquet as pq
import pytest
import transformers  # noqa: F401
from drill import wait_for
from foreign_drill import children
from saved_trials import epochs_in

from local_machine.files import matching
from trial_records import tables
from trial_records.trial_files import RUN

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
SMALL = {
    "lightning/lightning_digits": ("epochs=2", 4),
    "hugging_face/tiny_gpt": ("epochs=2", 4),
    "hydra/hydra_digits": ("epochs=2", 2),
    "gan/gan_digits": ("epochs=2", 4),
    "reinforcement/cart_pole": ("steps=6", 6),
    "own_images/own_images": ("epochs=1", 2),
    "own_network/own_network": ("epochs=1", 2),
}
"""A length, and the number of trials."""
CHANGED = {"lightning": 3, "hugging_face": 3, "hydra": 0}

pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("importing", "forked")]


@pytest.fixture(scope="module")
def importing() -> Iterator[None]:
    """The process that tries to import a program is a fork, too: it imports what was not yet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forks, "PROGRAMS", {*forks.PROGRAMS, "sweeps.launching.preflight"})
        yield


def launched(example: str, *words: object, at: Path | None = None, **more: str) -> Any:
    """A launch from the example's folder, or another one, that is running."""
    path = EXAMPLES / f"{example}.py"
    name = path.name if at is None else str(path.relative_to(at))
    line = [sys.executable, "-m", "sweeps.launch", name, "--on", "local", *map(str, words)]
    return subprocess.Popen(
        line, cwd=at or path.parent, text=True, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), **more},
    )  # fmt: skip


def runs(results: Path) -> dict[str, Any]:
    """The rows of each trial that is done, and the metrics of its end."""
    found = {}
    for path in matching(results, f"*/*/{RUN}"):
        (run,) = pq.read_table(path).to_pylist()
        final = {name: one for name, one in run.items() if name.startswith("final.")}
        found[path.parent.name] = (tables.read_epochs(path.parent).to_pylist(), final)
    return found


@pytest.mark.long
@pytest.mark.parametrize("example", SMALL)
def test_it_runs_from_its_folder_and_is_found_from_the_repository(
    example: str, tmp_path: Path
) -> None:
    length, count = SMALL[example]
    words: list[object] = ["--results", tmp_path / "results", "--set", length]
    if example.startswith("own_images"):
        draw = EXAMPLES / "own_images" / "make_images.py"
        subprocess.run([sys.executable, draw, tmp_path / "images"], check=True)
        words += ["--set", f"data.root={tmp_path / 'images'}"]
    else:
        dry = launched(example, *words, "--dry-run", at=ROOT)
        said = dry.communicate()[1]
        assert dry.returncode == 0 and f"{count} pending" in said, said
    launch = launched(example, *words, "--workers", "2")
    said = launch.communicate()[1]
    assert launch.returncode == 0, said
    found = runs(tmp_path / "results")
    assert len(found) == count and all(rows for rows, _ in found.values())


def is_stopped(process: int) -> bool:
    return "\nState:\tT" in Path(f"/proc/{process}/status").read_text()


@pytest.mark.long
@pytest.mark.parametrize("example", ["lightning/lightning_digits", "hugging_face/tiny_gpt"])
def test_preempted_and_killed_it_ends_with_the_rows_of_an_undisturbed_run(
    example: str, tmp_path: Path
) -> None:
    words = ("--set", "epochs=4", "--workers", "1", "--results")
    whole, results, once = (tmp_path / name for name in ("whole", "results", "once"))
    once.mkdir()
    assert launched(example, *words, whole).wait() == 0
    # Asked to stop in its second epoch, it commits that, and no more.
    launch = launched(example, *words, results, HANGS_AT="log:2")
    wait_for(lambda: any(map(is_stopped, children(launch.pid))), every=0.05)
    (worker,) = children(launch.pid)
    launch.terminate()
    os.kill(worker, signal.SIGTERM)
    os.kill(worker, signal.SIGCONT)
    said = launch.communicate()[1]
    assert launch.returncode, said
    (trial,) = (path.parent for path in matching(results, "*/*/config.json"))
    assert 0 < epochs_in(trial) < len(runs(whole)[trial.name][0]) and not runs(results)
    # A worker dies while it logs, another one while it commits.
    dies = {"DIES_ONCE": str(once), "DIES_AT": "log:3 rename:1"}
    assert launched(example, *words, results, **dies).wait() == 0
    assert {path.name for path in once.iterdir()} == {"log:3", "rename:1"}
    (run,) = pq.read_table(trial / RUN).to_pylist()
    assert len(json.loads(run["attempts"])) > 1
    assert runs(results) == runs(whole)


@pytest.mark.parametrize("folder", CHANGED)
def test_three_lines_of_a_program_change(folder: str) -> None:
    program = (EXAMPLES / folder / "train.py").read_text()
    assert program.count("# changed: ") == CHANGED[folder] <= 3
    assert "import sweeps" not in program and "from sweeps" not in program


def test_each_example_has_a_short_readme() -> None:
    folders = {path.parent for path in EXAMPLES.glob("*/*.py")}
    assert {f"{path.name}/" for path in folders} == {f"{one.split('/')[0]}/" for one in SMALL}
    for folder in folders:
        assert len((folder / "README.md").read_text().splitlines()) <= 14
        assert f"({folder.name}/)" in (EXAMPLES / "README.md").read_text()
