"""The rules of the code: who imports whom, and what a command loads before it is asked to work."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("local_machine", "trial_records", "trainer", "sweeps", "analysis", "slurm")
COMMANDS = (
    "sweeps.launch",
    "sweeps.status",
    "sweeps.retry",
    "sweeps.logs",
    "sweeps.cancel",
    "sweeps.note",
    "sweeps.tag",
    "sweeps.exclude",
    "sweeps.adopt.__main__",
    "sweeps.compact.__main__",
    "sweeps.verify.__main__",
    "sweeps.doctor.__main__",
    "sweeps.search.__main__",
    "sweeps.study.__main__",
    "sweeps.execution.worker",
    "analysis.report",
    "analysis.export.__main__",
    "trainer.__main__",
)

# What of its siblings a package may import; the files named may import a little more, and only
# where the work is done, inside a function.
ALLOWED = {
    "local_machine": set(),
    "trial_records": set(),
    # As anybody's training program: the contract, and what training is handed.
    "trainer": {
        "sweeps.task",
        "sweeps.run.attempt",
        "sweeps.run.attempt_files",
        "sweeps.run.attempt_folder",
        "sweeps.run.background",
        "sweeps.run.class_names",
        "sweeps.run.checkpoint_file",
        "sweeps.run.ends",
        "sweeps.run.handle",
    },
    "slurm": set(),
    "sweeps": {
        "slurm",
        "slurm.queue",
        "slurm.waiting",
        "slurm.commands",
        "slurm.job_state",
        "slurm.site",
        "slurm.rank_info",
        "slurm.environment",
        "slurm.send",
    },
    # The sweeps and the study that come with the project; nobody else knows the trainer.
    "sweeps/definitions": {"trainer.config", "trainer.recipes"},
    "sweeps/studies": {"trainer.config", "trainer.recipes"},
    "analysis": set(),
    "analysis/cifar10": {"trainer.config", "trainer.recipes", "trainer.data.known"},
}
EXTRA = {
    # The page and `sweeps.status` read one source of states.
    "analysis/reading/standings.py": {
        "sweeps.spec.sweep",
        "sweeps.state.lease",
        "sweeps.state.liveness",
        "sweeps.state.progress",
        "sweeps.state.trial_store",
    },
    "analysis/cifar10/explain/tested.py": {
        "trainer.data.datasets",
        "trainer.records.saved_weights",
    },
    "analysis/cifar10/explain/grad_cam.py": {
        "trainer.models",
        "trainer.models.own",
        "trainer.augment.batch",
    },
}


# local_machine under trial_records under all else.
GROUND = {
    "local_machine": (),
    "trial_records": ("local_machine",),
    **dict.fromkeys(("trainer", "sweeps", "analysis", "slurm"), ("local_machine", "trial_records")),
}


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Every module of the project that the file imports, at any depth; `from a import b` is a.b
    where that is a module, else a."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            for alias in node.names:
                full = ROOT / module.replace(".", "/") / alias.name
                is_module = full.with_suffix(".py").exists() or (full / "__init__.py").exists()
                found.add(f"{module}.{alias.name}" if is_module else module)
    return {name for name in found if name.partition(".")[0] in PACKAGES}


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_they_may(package: str) -> None:
    for path in files(package):
        name = str(path.relative_to(ROOT))
        within = (some for folder, some in ALLOWED.items() if name.startswith(f"{folder}/"))
        allowed = set().union(*within, EXTRA.get(name, set()))
        for module in imports(path):
            if module.partition(".")[0] not in (package, *GROUND[package]):
                assert module in allowed, f"{name} imports {module}"


def test_what_trains_is_imported_late() -> None:
    for name in EXTRA:
        path = ROOT / name
        if path.exists():
            body = ast.parse(path.read_text()).body
            top = [node for node in body if isinstance(node, ast.ImportFrom | ast.Import)]
            for node in top:
                module = getattr(node, "module", "") or ""
                assert module not in EXTRA[name], f"{name} imports {module} at its top"


EDGES = {
    "clock": {"time.time", "time.monotonic", "time.perf_counter", "time.sleep"},
    "signals": {"signal.signal", "signal.getsignal", "signal.setitimer"},
    "processes": {
        "subprocess.run", "subprocess.Popen", "subprocess.check_output", "os.kill", "os.killpg",
        "os.fork", "socket.gethostname",
    },
}  # fmt: skip


@pytest.mark.long
def test_time_signals_and_processes_are_reached_through_one_module_each() -> None:
    for package in PACKAGES:
        for path in files(package):
            used = {ast.unparse(node) for node in ast.walk(ast.parse(path.read_text()))}
            for edge, names in EDGES.items():
                # The keeper is a program of its own, which imports nothing of the project.
                if path.stem not in (edge, "keeper") or path.parent.name != "local_machine":
                    assert not used & names, (
                        f"{path} goes past local_machine.{edge}: {used & names}"
                    )


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for package in PACKAGES for path in files(package)}


def imported_when_run(path: Path) -> Iterator[tuple[str, str]]:
    """Module and name, "" of `import module`. Those under TYPE_CHECKING make no circle: nothing
    runs them."""
    tree = ast.parse(path.read_text())
    typing_only = {
        node
        for guard in ast.walk(tree)
        if isinstance(guard, ast.If) and "TYPE_CHECKING" in ast.unparse(guard.test)
        for node in ast.walk(guard)
    }
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", alias.name) for alias in node.names)


def refuse_circles(graph: dict[str, set[str]]) -> None:
    done: set[str] = set()

    def visit(node: str, trail: tuple[str, ...]) -> None:
        assert node not in trail, " -> ".join((*trail, node))
        if node not in done:
            for other in sorted(graph[node] - {node}):
                visit(other, (*trail, node))
            done.add(node)

    for node in graph:
        visit(node, ())


def test_no_import_circles() -> None:
    """Importing a module imports the packages around it, too."""
    graph = {
        name: {
            one
            for module, alias in imported_when_run(path)
            for one in (module, f"{module}.{alias}")
            if one in MODULES
        }
        for name, path in MODULES.items()
    }
    refuse_circles(graph)


def folder_or_file(path: Path) -> str:
    """The folder of a module; of one that lies directly in its package's folder, the file."""
    inside = path.relative_to(ROOT)
    return str(inside.parent if len(inside.parts) > 2 else inside)


def test_no_circles_between_folders() -> None:
    graph: dict[str, set[str]] = {folder_or_file(path): set() for path in MODULES.values()}
    for path in MODULES.values():
        for module, alias in imported_when_run(path):
            target = MODULES.get(f"{module}.{alias}") or MODULES.get(module)
            if target is not None:
                graph[folder_or_file(path)].add(folder_or_file(target))
    refuse_circles(graph)


# Files of a folder beside __init__.py; lines of a file, a function, a test file, all records.
FILES, FILE, FUNCTION, TEST_FILE, RECORDS = 14, 400, 60, 600, 3_200


def length(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_folders_files_and_functions_are_short_enough_to_read() -> None:
    too_long: list[str] = []
    for path in (path for package in PACKAGES for path in files(package)):
        name = str(path.relative_to(ROOT))
        too_long += [name] * (length(path) > FILE)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                start = min([node.lineno, *(one.lineno for one in node.decorator_list)])
                too_long += [f"{name}: {node.name}"] * ((node.end_lineno or 0) - start >= FUNCTION)
        modules = [one for one in path.parent.glob("*.py") if one.name != "__init__.py"]
        too_long += [str(path.parent)] * (len(modules) > FILES)
    too_long += [path.name for path in (ROOT / "tests").glob("*.py") if length(path) > TEST_FILE]
    assert not too_long
    assert sum(map(length, files("trial_records"))) <= RECORDS


def test_no_catch_all_modules() -> None:
    for package in (*PACKAGES, "tests", "benchmarks"):
        for path in files(package):
            assert path.stem not in {"utils", "util", "helpers", "misc", "common"}, path


def loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    return set(done.stdout.split())


def test_importing_a_command_loads_no_torch() -> None:
    code = "\n".join(f"import {command}" for command in COMMANDS)
    assert not loaded_by(code) & {"torch", "torchvision", "pandas", "matplotlib", "sklearn"}


@pytest.mark.long
@pytest.mark.parametrize(
    "command",
    [
        "sweeps",
        "slurm.dev_cluster",
        *(one.removesuffix(".__main__") for one in COMMANDS if one != "sweeps.execution.worker"),
    ],
)
def test_help_loads_nothing_that_takes_long(command: str) -> None:
    code = f"""
import runpy, sys
sys.argv = ["x", "--help"]
import contextlib, io
with contextlib.redirect_stdout(io.StringIO()):
    try:
        runpy.run_module({command!r}, run_name="__main__")
    except SystemExit as end:
        assert end.code == 0
"""
    # rich alone takes more than Python and typer together.
    heavy = {"torch", "pydantic", "pyarrow", "numpy", "pandas", "matplotlib", "rich", "submitit"}
    assert not loaded_by(code) & heavy


def test_the_package_installs_without_the_checkouts_folder() -> None:
    """Every package folder is a package, so that an installed copy is whole."""
    for package in PACKAGES:
        for folder in {path.parent for path in files(package)}:
            assert (folder / "__init__.py").exists(), folder


def test_looking_at_a_sweep_loads_no_pyarrow() -> None:
    """Figures that were seen before are in a JSON file; numpy and pyarrow take a quarter second."""
    code = (
        "import sweeps.launching.dispatch, sweeps.state.trial_store, sweeps.cost.estimate, "
        "sweeps.state.progress"
    )
    assert not loaded_by(code) & {"torch", "numpy", "pyarrow", "pandas"}


def test_paths_are_looked_for_in_one_way() -> None:
    """`Path.glob` raises where somebody removes a folder meanwhile; `matching` looks again."""
    found = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in files(package)
        if re.search(r"\.r?glob\(", path.read_text())
    }
    installed = "local_machine/installed/import_owner.py"  # imported by what `files` imports
    own = {"local_machine/files.py", "sweeps/command_task/metrics/kinds.py", installed}
    assert found == own
