"""Commands run from a folder with modules of the person's own, whose names are ours or Python's."""

from __future__ import annotations

import os
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIBRARIES = sysconfig.get_path("purelib")
OURS = ("local_machine", "trial_records", "trainer", "sweeps", "analysis", "slurm")

# As setuptools writes it for `pip install -e`: after all of Python's own finders.
EDITABLE = f"""
import sys
from importlib.util import spec_from_file_location
from pathlib import Path
class Finder:
    def find_spec(name, path=None, target=None):
        place = Path({str(ROOT)!r}, *name.split("."))
        if name.partition(".")[0] in {OURS}:
            for file in (place / "__init__.py", place.with_suffix(".py")):
                if file.exists():
                    return spec_from_file_location(name, file)
sys.meta_path.append(Finder)
"""

COMMANDS = {
    "sweeps.launch": ["grid_bs_epoch", "--dry-run", "--on", "local", "--scale", "smoke"],
    "sweeps.status": [],
    "analysis.report": [],
    "trainer": ["missing.json", "out"],
    "slurm.dev_cluster": ["status", "--dir", "cluster"],
}
# What each says in an empty folder, and its exit code: all but the first find nothing to work on.
SAYS = {
    "sweeps.launch": (0, "nothing was run or written"),
    "sweeps.status": (2, "results"),
    "analysis.report": (2, "results"),
    "trainer": (2, "cannot read missing.json"),
    "slurm.dev_cluster": (3, "cluster"),
}
OWN = [
    "trainer.py", "queue.py", "slurm.py", "sweeps.py", "analysis.py", "trial_records.py",
    "logging.py", "typing.py", "typer.py", "pydantic.py", "torch.py",
    *(f"{package}/__init__.py" for package in OURS[1:]),
]  # fmt: skip
WORD = "a file of the person's own"


@pytest.fixture(scope="module", params=["plain", "editable"])
def python(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter for which this project is installed, in either way."""
    folder = tmp_path_factory.mktemp("environment")
    venv.EnvBuilder(symlinks=True).create(folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "own_finder.py").write_text(EDITABLE)
    plain = request.param == "plain"
    (packages / "project.pth").write_text(
        f"{LIBRARIES}\n{ROOT if plain else 'import own_finder'}\n"
    )
    return folder / "bin" / "python"


def run(python: Path, folder: Path, command: str, *flags: str) -> subprocess.CompletedProcess[str]:
    environment = {key: text for key, text in os.environ.items() if not key.startswith("PYTHON")}
    return subprocess.run(
        [python, *flags, "-m", command, *COMMANDS[command]],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def assert_works(done: subprocess.CompletedProcess[str], command: str) -> None:
    code, said = SAYS[command]
    assert "Traceback" not in done.stderr and WORD not in done.stderr, done.stderr
    assert done.returncode == code and said in done.stderr, done.stderr


def package_of(command: str) -> str:
    return command.partition(".")[0]


def write(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(f'raise SystemExit("{WORD}")\n')


@pytest.mark.long
@pytest.mark.parametrize("command", COMMANDS)
def test_modules_in_the_working_folder_stand_in_for_none_of_ours(
    python: Path, tmp_path: Path, command: str
) -> None:
    for own in OWN:
        # Else Python looks for the command in it, and ends before any code of ours runs.
        if own.partition("/")[0].removesuffix(".py") != package_of(command):
            write(tmp_path, own)
    assert_works(run(python, tmp_path, command), command)


@pytest.mark.long
@pytest.mark.parametrize("command", COMMANDS)
def test_a_package_of_the_commands_own_name_can_be_passed_by(
    python: Path, tmp_path: Path, command: str
) -> None:
    write(tmp_path, f"{package_of(command)}.py")
    assert run(python, tmp_path, command).returncode == 1
    assert_works(run(python, tmp_path, command, "-P"), command)


@pytest.mark.long
@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_of_the_commands_own_name_is_none_of_its_packages(
    python: Path, tmp_path: Path, command: str
) -> None:
    """Such as sweeps/, with a person's definitions: without an __init__.py it is a package for
    Python, too, where nothing else has its name."""
    write(tmp_path, f"{package_of(command)}/own.py")
    assert_works(run(python, tmp_path, command), command)


def test_an_empty_package_of_the_commands_own_name(python: Path, tmp_path: Path) -> None:
    """Where Python finds the command all the same, as in a checkout, it works; else Python says
    which module it misses."""
    (tmp_path / "analysis").mkdir()
    (tmp_path / "analysis" / "__init__.py").touch()
    done = run(python, tmp_path, "analysis.report")
    if "No module named analysis.report" not in done.stderr:
        assert_works(done, "analysis.report")


@pytest.mark.long
def test_modules_of_the_working_folder_are_found_by_a_definition(
    python: Path, tmp_path: Path
) -> None:
    """Beside it, and in the folder that the command runs in; never in the place of Python's own."""
    write(tmp_path, "queue.py")
    (tmp_path / "in_folder.py").write_text("RATES = [0.1, 0.2]\n")
    other = tmp_path / "definitions"
    other.mkdir()
    write(other, "queue.py")
    (other / "beside.py").write_text("EPOCHS = 1\n")
    (other / "mine.py").write_text(
        "import queue\nfrom beside import EPOCHS\nfrom in_folder import RATES\n"
        "from sweeps import Sweep, grid\nfrom trainer.recipes import reported\n"
        "queue.Queue()\n"
        "sweep = Sweep(reported(), grid({'optimizer.lr': RATES, 'epochs': [EPOCHS]}))\n"
    )
    COMMANDS["sweeps.launch"][0] = str(other / "mine.py")
    try:
        done = run(python, tmp_path, "sweeps.launch")
    finally:
        COMMANDS["sweeps.launch"][0] = "grid_bs_epoch"
    assert_works(done, "sweeps.launch")
    assert "2 trials" in done.stderr
