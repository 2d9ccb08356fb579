"""Definitions that are not definitions: each is refused in words, at once, and many are not run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_machine.errors import InputError, run_command
from sweeps.spec.expand import expand
from sweeps.spec.find import find, find_search
from sweeps.spec.grid import MAX_TRIALS, chain, grid, zipped
from sweeps.spec.sweep import NAME_LENGTH, Search, Sweep
from sweeps.state.plan import Plan
from sweeps.state.trial_store import TrialStore
from sweeps.study.stages import find_study
from trainer.config import TrainConfig, field_types
from trainer.recipes import reported
from trial_records.names import is_name

ROOT = Path(__file__).parent.parent
HEAD = """
from sweeps.spec.grid import *
from sweeps.spec.sweep import *
from sweeps.study.stages import *
from sweeps.search_space.distributions import *
from trainer.recipes import reported
from local_machine.errors import InputError
class Odd(BaseException): pass
class OddKeyboard(KeyboardInterrupt): pass
def deep(n=10**5):
    value = []
    for _ in range(n): value = [value]
    return value
"""
LINE = len(HEAD.splitlines()) + 1


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    """A definition that hangs ends the test, not the session."""
    signal.alarm(20)
    yield
    signal.alarm(0)


BAD = {
    "many_seeds": ("sweep = Sweep(base=reported(), seeds=10**9)", "1,000,000 trials"),
    "many_trials": (
        "sweep = Sweep(base=reported(), space=grid({'epochs': range(1, 2000)}), seeds=1000)",
        "1999 points of 1000 seeds",
    ),
    "many_points": (
        "sweep = Sweep(reported(), grid({'seed': range(10**4), 'epochs': range(10**4)}))",
        "1,000,000 trials",
    ),
    "long_axis": ("sweep = Sweep(reported(), grid({'seed': range(10**12)}))", "axis 'seed'"),
    "endless_axis": ("sweep = Sweep(reported(), grid({'seed': range(10**30)}))", "axis 'seed'"),
    "long_zip": ("sweep = Sweep(reported(), zipped({'seed': range(10**12)}))", "axis 'seed'"),
    "generator": ("sweep = Sweep(reported(), grid({'seed': iter(int, 1)}))", "not a list"),
    "generator_space": ("sweep = Sweep(reported(), ({} for _ in iter(int, 1)))", "space is <gen"),
    "generator_chain": ("sweep = Sweep(reported(), chain(iter(int, 1)))", "chain got"),
    "list_of_axes": ("sweep = Sweep(reported(), grid(['seed']))", "the axes are a list"),
    "odd_key": ("sweep = Sweep(reported(), ({5: 1},))", "5 is not a field"),
    "exits": ("import sys; sweep = sys.exit(0)", "SystemExit: 0"),
    "exits_in_base": ("sweep = Sweep(base=lambda point: exit(0))", "base fails with SystemExit"),
    "odd_base": ("sweep = Sweep(base=lambda point: 5)", "base gives a int"),
    "odd_error": ("sweep = None\nraise Odd('x')", "Odd: x"),
    "odd_interrupt": ("sweep = None\nraise OddKeyboard", "OddKeyboard"),
    "odd_in_base": ("def f(p): raise Odd\nsweep = Sweep(base=f)", "base fails with Odd"),
    "speechless": (
        "class E(Exception):\n    def __str__(self): raise Odd\nsweep = None\nraise E",
        "E: it cannot say why",
    ),
    "recursion": ("def f(): f()\nsweep = f()", "RecursionError"),
    "deep_repr": ("sweep = Sweep(reported(), deep())", "space is "),
    "deep_value": ("sweep = Sweep(reported(), ({'epochs': deep()},))", "recursion"),
    "bad_repr": (
        "class R:\n    def __repr__(self): raise Odd\nsweep = Sweep(reported(), R())",
        "space is a R",
    ),
    "no_memory": ("sweep = [0] * 10**15", "MemoryError"),
    "latin": ("sweep = 'caf\udce9'", "SyntaxError"),
    "nul": ("sweep = 1\0", "null"),
    "nested": ("sweep = " + "(" * 5000 + ")" * 5000, ""),
    "class": ("class sweep: pass", "a `sweep` that is a type"),
    "odd_class": (
        "class C:\n    @property\n    def __class__(self): raise Odd\nsweep = C()", "Odd"
    ),
    "resources": ("from slurm.site import *\nsweep = Sweep(reported(), resources=5)", "resources"),
}  # fmt: skip


def refusal(act: Any, *args: Any) -> str:
    with pytest.raises(InputError) as caught:
        act(*args)
    assert caught.value.help and caught.value.exit_code in (2, 3)
    return caught.value.what


@pytest.mark.parametrize("name", BAD)
def test_a_bad_definition_is_refused_in_words(tmp_path: Path, name: str) -> None:
    source, message = BAD[name]
    path = tmp_path / f"{name}.py"
    path.write_bytes((HEAD + source).encode(errors="surrogateescape"))
    said = refusal(lambda: expand(find(str(path))[1]))
    assert message in said
    assert len(said) < 2000
    assert str(path) in said or said.startswith("at ")


VALUES = [
    "__import__('numpy').int64(3)", "__import__('decimal').Decimal(3)", "Path('x')",
    "float('nan')", "float('inf')", "10**400", "-10**400", "b'3'", "{'a': 1}", "[[1]]", "object()",
    "'\\udc80'", "1j", "{1}", "None", "True", "3.5", "'x'", "''", "'3\\0'", "lambda: 3",
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("field", ["epochs", "optimizer.lr"])
def test_an_odd_value_names_the_field(tmp_path: Path, value: str, field: str) -> None:
    if (field, value) == ("optimizer.lr", "3.5"):
        return
    path = tmp_path / "odd.py"
    path.write_text(HEAD + f"sweep = Sweep(reported(), grid({{{field!r}: [{value}]}}))")
    assert field in refusal(lambda: expand(find(str(path))[1]))


def test_what_a_value_may_be_is_stored_and_read_again(tmp_path: Path) -> None:
    """Texts, bools, whole and finite numbers, None and lists of them: numpy's floats are floats."""
    path = tmp_path / "fine.py"
    path.write_text(
        HEAD + "import numpy as np\nfrom pathlib import Path\n"
        "sweep = Sweep(reported(), grid({'optimizer.lr': [np.float64(0.1)], 'epochs': ['7'],"
        "'data.train_limit': [None], 'schedule.milestones': [[0.1, 0.5]]}))"
    )
    trials = expand(find(str(path))[1])
    store = TrialStore(tmp_path, "fine")
    store.write_plan(Plan("fine", trials, "full", {}, [], ""))
    assert store.plans()[0].trials[0].config == trials[0].config


SCRIPT = """
import argparse, sys
from pathlib import Path
def train(sweep): sweep = 5; return [sweep for sweep in ()]
class Config:
    sweep = 3
for name, value in vars(argparse.Namespace(a=1)).items():
    setattr(Config, name, value)
Path("ran").touch()
"""


def test_a_training_script_given_by_mistake_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text(SCRIPT.replace("return [sweep for sweep in ()]", "return sweep"))
    for act, word in ((find, "sweep"), (find_search, "search"), (find_study, "study")):
        said = refusal(act, "train.py")
        assert f"no `{word}` in it, so it was not run" in said
    assert not Path("ran").exists()


MADE = "Sweep(reported())"
WAYS = [
    f"sweep = {MADE}", f"sweep: Sweep = {MADE}", f"a = sweep = {MADE}", f"(sweep, b) = {MADE}, 1",
    f"if True:\n    sweep = {MADE}", f"try:\n    1 / 0\nexcept Exception:\n    sweep = {MADE}",
    f"for sweep in [{MADE}]: pass", f"while True:\n    sweep = {MADE}; break",
    f"import contextlib\nwith contextlib.nullcontext({MADE}) as sweep: pass",
    f"print(sweep := {MADE})", f"[sweep := one for one in [{MADE}]]",
    f"match {MADE}:\n    case sweep: pass", f"match [{MADE}]:\n    case [*sweep]: sweep = sweep[0]",
    "from other import made as sweep", "from other import *", "from other import sweep",
    f"globals()['sweep'] = {MADE}", f"vars()['sweep'] = {MADE}", f"exec('sweep = {MADE}')",
    f"import sys; sys.modules[__name__].sweep = {MADE}",
    f"import sys; setattr(sys.modules[__name__], 'sweep', {MADE})",
    f"def f():\n    global sweep\n    sweep = {MADE}\nf()",
    f"def __getattr__(name):\n    return {MADE}",
    f"from dataclasses import dataclass\n@dataclass\nclass A:\n    a: 'int' = 3\nsweep = {MADE}",
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_hold_a_sweep_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    (tmp_path / "other.py").write_text(HEAD + f"made = sweep = {MADE}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "other", raising=False)
    (tmp_path / "it.py").write_text(HEAD + way)
    found = find(str(tmp_path / "it.py"))
    assert found[0] == "it" and isinstance(found[1], Sweep)
    assert not (tmp_path / "__pycache__" / "it.cpython-311.pyc").exists()


ODD_FILES = ("fifo", "folder", "loop", "zero", "nowhere", "latin", "missing", "socket")


@pytest.mark.parametrize("kind", ODD_FILES)
@pytest.mark.parametrize("ending", [".py", ".json"])
def test_a_definition_that_is_not_a_file(tmp_path: Path, kind: str, ending: str) -> None:
    path = tmp_path / f"odd{ending}"
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "loop":
            path.symlink_to(path)
        case "zero":
            path.symlink_to("/dev/zero")
        case "nowhere":
            path.symlink_to("/nowhere")
        case "latin":
            path.write_bytes(b"sweep = '\xe9'")
        case "socket":
            import socket

            with socket.socket(socket.AF_UNIX) as one:
                one.bind(str(path))
    acts = (find, find_search, find_study) if ending == ".py" else (find,)
    for act in acts:
        assert f"odd{ending}" in refusal(act, str(path))


@pytest.mark.parametrize(
    "name",
    ["x" * 201 + ".py", "y/" + "x" * 300 + ".py", "x" * 5000 + ".py", "x" * 201, "a\0b.py", "",
     "\udc80.py", ".py", "/", "/dev/stdin", "/dev/stdin.py", "-.py", "a b.py", "x" * 300 + ".json"],
)  # fmt: skip
def test_a_definition_of_an_odd_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for act in (find, find_search, find_study):
        with pytest.raises(SystemExit) as end:
            run_command(lambda act=act, **_: act(name), [])  # type: ignore[misc]
        said = capsys.readouterr().err
        assert end.value.code in (2, 3)
        assert said.startswith("error: ") and "help: " in said and "bug" not in said


def test_searches_and_studies_are_bounded_alike(tmp_path: Path) -> None:
    search = "search = Search(reported(), {'optimizer.lr': log_uniform(1e-4, 1)}, "
    for source, message in (
        (search + "trials=10**9)", "trials is 1000000000"),
        (search + "seed=10**30)", "seed is 1000"),
        (search + "sampler=deep())", "unknown sampler"),
        ("search = Search(reported(), {5: choice([1])})", "5 is not a field"),
        ("search = Search(reported(), {'epochs': choice(range(10**30))})", "more than 1000"),
        (
            "search = Search(reported(), {k: choice(list(range(2, 900))) for k in ('epochs', "
            "'batch_size')}, sampler='grid')",
            "sampler grid",
        ),
        (search + "start=iter(int, 1))", "start is a"),
        (search + "start=[deep()])", "start: "),
    ):
        path = tmp_path / "some.py"
        path.write_text(HEAD + source)
        assert message in refusal(find_search, str(path))
    for source, message in (
        ("study = Study(Stage(5, lambda s: None))", "5 is not a valid name"),
        ("study = Study(Stage('a', 5))", "has no function"),
        ("study = Study(Stage('a', lambda s: None, reported=5))", "has no function"),
        ("study = Study(deep())", "is not a stage"),
        ("study = Study(Stage('x' * 300, lambda s: None))", "is not a valid name"),
        ("import sys; study = sys.exit(0)", "SystemExit"),
    ):
        path.write_text(HEAD + source)
        assert message in refusal(find_study, str(path))
    path.write_text(HEAD + "study = Study(Stage('a', lambda s: exit(0)))")
    from sweeps.spec.scale import Scale
    from sweeps.study.stages import SoFar

    _, study = find_study(str(path))
    assert "stage a: SystemExit" in refusal(study.stages[0].made, SoFar(Scale.FULL, {}))


def test_spaces_at_the_bound() -> None:
    assert len(grid({"seed": range(1000), "epochs": range(1000)})) == MAX_TRIALS
    for make in (grid, zipped):
        refusal(make, {"seed": range(MAX_TRIALS + 1)})
    half = grid({"seed": range(MAX_TRIALS // 2 + 1)})
    refusal(chain, half, half)


def test_interrupting_a_definition_that_never_ends(tmp_path: Path) -> None:
    path = tmp_path / "endless.py"
    path.write_text("from pathlib import Path\nPath('begun').touch()\nwhile True: sweep = 5\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "sweeps.launch", str(path), "--dry-run"], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not (tmp_path / "begun").exists():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=15)
    assert process.returncode == 130
    assert "Traceback" not in said


LEAVES = [
    name for name, kind in field_types().items() if name not in ("schema_version", "data.root")
]


def test_a_name_of_many_fields_is_bounded(tmp_path: Path) -> None:
    """A grid over 21 fields made a folder's name of 316 characters."""
    flat = reported().flat()
    fields = [name for name in LEAVES if flat[name] is not None][:30]
    point = {name: flat[name] for name in fields if name != "seed"}
    trials = expand(Sweep(reported(), (point,), seeds=3))
    for trial in trials:
        assert len(trial.name) <= NAME_LENGTH
        assert trial.name.endswith(f"-seed{trial.config.seed}-{trial.config.fingerprint[:8]}")
        assert trial.name.startswith("epochs") or "-" in trial.name
    # A folder that has the long name keeps it.
    long = trials[0].renamed("x" * 150 + trials[0].name[-9:])
    store = TrialStore(tmp_path, "long")
    store.write_plan(Plan("long", [long], "full", {}, [], ""))
    assert store.settle_names(trials)[0].name == long.name


@given(
    st.lists(
        st.tuples(
            st.sampled_from([".data.root", "data.root", "name", "a.b"]), st.text(max_size=300)
        ),
        max_size=9,
    ),
    st.integers(0, 2**63 - 1),
)
@settings(max_examples=200)
def test_every_name_is_safe_and_bounded(words: list[tuple[str, str]], seed: int) -> None:
    from sweeps.spec.expand import _name, _word

    config = TrainConfig(seed=seed)
    name = _name(
        [_word(key, value) for key, value in words] or ["resnet18"], seed, config.fingerprint
    )
    assert is_name(name) and len(name) <= NAME_LENGTH
    assert name.endswith(f"seed{seed}-{config.fingerprint[:8]}")


def test_a_search_that_comes_with_the_project_is_still_found() -> None:
    assert isinstance(find_search("weight_decay")[1], Search)


WITH_CLASSES = """
from __future__ import annotations

from dataclasses import KW_ONLY, InitVar, dataclass
from typing import ClassVar

from pydantic import BaseModel

from sweeps import Point, Sweep, grid
from trainer.config import TrainConfig


@dataclass
class Rates:
    most: float
    shrink: InitVar[float]
    known: ClassVar[list[Rates]] = []
    _: KW_ONLY
    least: float = 0.1

    def __post_init__(self, shrink: float) -> None:
        self.known.append(self)


class Sizes(BaseModel):
    batches: tuple[int, ...]
    rates: Rates | None = None


sizes = Sizes(batches=(64, 128), rates=Rates(0.2, 0.5))


def base(point: Point) -> TrainConfig:
    return TrainConfig(batch_size=point["batch_size"])


sweep = Sweep(base, grid({"batch_size": sizes.batches, "optimizer.lr": [sizes.rates.least]}))
"""


def test_a_definition_may_have_classes_with_annotations_of_the_future(tmp_path: Path) -> None:
    path = tmp_path / "classes.py"
    path.write_text(WITH_CLASSES)
    assert [trial.config.batch_size for trial in expand(find(str(path))[1])] == [64, 128]


def test_a_definition_imports_what_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From any working directory, at its top and in a function; never in the place of Python's."""
    folder, elsewhere = tmp_path / "definitions", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    for name in ("beside_at_top", "beside_later", "colorsys", "trainer"):
        (folder / f"{name}.py").write_text("SEED = 3\n")
    (folder / "mine.py").write_text(
        "import colorsys\nimport beside_at_top\nfrom sweeps import Sweep\n"
        "from trainer.recipes import reported\ncolorsys.rgb_to_hsv\n"
        "def base(point):\n    import beside_later\n"
        "    return reported().override({'seed': beside_later.SEED + beside_at_top.SEED})\n"
        "sweep = Sweep(base)\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    before = list(sys.path)
    for path in (folder / "mine.py", Path("../definitions/mine.py")):
        monkeypatch.chdir(elsewhere)
        (trial,) = expand(find(str(path))[1])
        assert trial.config.seed == 6
    # What it imports later is found behind all else, once.
    assert sys.path == [*before, str(folder)]


def test_a_module_that_is_not_beside_a_definition_is_its_error(tmp_path: Path) -> None:
    path = tmp_path / "lacks.py"
    path.write_text("import no_such_neighbour\nsweep = None\n")
    said = refusal(find, str(path))
    assert f"{path}:1: ModuleNotFoundError: No module named 'no_such_neighbour'" in said
    assert str(tmp_path) not in sys.path[:-1]
