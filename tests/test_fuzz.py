"""Wrong calls and damaged files, drawn at random: every command answers in words, in time, and
loses nothing.

    python tests/test_fuzz.py 800 300 [FIRST]    # so many calls and damaged files, from that number
    python tests/test_fuzz.py call 17            # one of them again, with what it printed
    python tests/test_fuzz.py file 17

Each case has a number, and follows from it alone. Commands run in children of one process that has
imported everything: a new interpreter for each would take ten times as long.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import random
import resource
import shutil
import signal
import socket
import stat
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from results_folder import finish
from test_definitions import BAD, HEAD

from local_machine.errors import run_command
from sweeps.spec.expand import expand
from sweeps.spec.find import find
from sweeps.state.lease import Lease
from sweeps.state.plan import LOGS, Plan
from sweeps.state.trial_store import TrialStore
from trial_records import trial_files

ROOT = Path(__file__).parent.parent
SECONDS = 20.0
IDLE_SECONDS = 5.0
MODULES = {
    "launch": "sweeps.launch",
    "status": "sweeps.status",
    "retry": "sweeps.retry",
    "logs": "sweeps.logs",
    "cancel": "sweeps.cancel",
    "compact": "sweeps.compact.__main__",
    "search": "sweeps.search.__main__",
    "study": "sweeps.study.__main__",
    "doctor": "sweeps.doctor.__main__",
    "report": "analysis.report",
    "trainer": "trainer.__main__",
    "dev_cluster": "slurm.dev_cluster",
}
SHOWS = ("status", "logs")
BASE = """
base = reported("resnet18").override({
    "data.name": "digits", "data.train_limit": 200, "data.test_limit": 100, "model.width": 0.125,
    "epochs": 3, "batch_size": 64, "precision": "fp32",
})
"""
DEFINITION = HEAD + BASE + "sweep = Sweep(base, grid({'optimizer.lr': [0.01, 0.02, 0.05]}))\n"
SEARCH = HEAD + BASE + "search = Search(base, {'optimizer.lr': log_uniform(1e-3, 1)}, trials=3)\n"
STUDY = HEAD + BASE + (
    "def first(so_far): return Sweep(base, grid({'optimizer.lr': [0.01, 0.02]}))\n"
    "study = Study(Stage('one', first, reported={'optimizer.lr': 0.01}))\n"
)  # fmt: skip
SITE = (
    'partition = "gpu"\nsetup = ["module load cuda"]\n[environment]\nA = "b"\n[slurm]\nqos = "x"\n'
)
HOSTILE = (
    "\x1b]0;owned\x07\x1b[2J\x9b31m\rgone\x08\u202eevil<script>alert(1)</script>[red]=cmd|' /C"
)
DONE, TORN, PACKED = "tiny", "torn", "packed"


# --- what lies there --------------------------------------------------------------------------


def build(folder: Path) -> None:
    """Definitions, a site and results of three sweeps: finished, torn, and compacted."""
    (folder / "tiny.py").write_text(DEFINITION)
    (folder / "search.py").write_text(SEARCH)
    (folder / "study.py").write_text(STUDY)
    (folder / "site.toml").write_text(SITE)
    (folder / "a_file").write_text("something")
    results = folder / "results"
    trials = expand(find(str(folder / "tiny.py"))[1])
    for sweep in (DONE, TORN, PACKED):
        store = TrialStore(results, sweep)
        store.write_plan(Plan(sweep, trials, "full", {}, ["optimizer.lr"], f"launch {HOSTILE}"))
        (store.folder / LOGS).mkdir()
        words = "".join(f"x === trial {one.name}, attempt 1\n{HOSTILE}\nx === end of {one.name}\n"
                        for one in trials)  # fmt: skip
        (store.folder / LOGS / "1-1-0.log").write_text(words)
        for number, trial in enumerate(trials):
            where = store.folder_of(trial)
            where.mkdir()
            if sweep == TORN and number < 2:
                (where / trial_files.CONFIG).write_text(trial.config.to_json())
                if number:
                    text = json.dumps(Lease(1, 0, 1.0, "log").__dict__, default=str)
                    (where / "claim.json").write_text(text)
                else:
                    trial_files.Failure(
                        "ERROR", HOSTILE, HOSTILE, [HOSTILE], 1, 1.0, HOSTILE
                    ).write(where)
            else:
                finish(where, trial.config, classes="0,1,2,3,4,5,6,7,8,9")
            (where / trial_files.CHECKPOINT).write_bytes(b"not a checkpoint")
    code = _in_child(lambda: _command("compact", [PACKED, "--results", str(results)]), folder)
    assert code.exit == 0, code.said
    for path in (folder / ".out", folder / ".err"):
        path.unlink()


ODD = (
    ["", ".", "/", "..", "../..", "/proc/x", "/proc/self/mem", "/dev/null", "/dev/zero",
     "/dev/full", "/sys/x",
     "a_file", "a_file/below", "fifo", "loop", "nowhere", "results", "results/tiny",
     "x" * 150, "x" * 300, "x" * 5000, "a\nb", "a b", "$(x)", "-", "--", "-x", "--x", "--json",
     "%j", "a%sb", "[red]x", "é", "\u202e", "\x1b[2J", "\udc80", "0", "-1", "1e9", "9" * 400, "nan",
     "inf", "None", "true", "{}", "'", '"', ";", "auto", "tiny", "torn", "packed", "grid_bs_epoch",
     "weight_decay", "cifar10", "tiny.py", "search.py", "study.py", "site.toml", "local", "slurm",
     "debug", "smoke", "optimizer.lr=0.1", "epochs=" + "9" * 400, "data.root=fifo", "data.root=",
     "data.root=a_file", "data.name=digits", "seed=-1", "=", "a=b", "model.name=x",
     "schedule.milestones=1,2", "results/tiny/plans"]
)  # fmt: skip
OPTIONS: dict[str, list[str]] = {
    "launch": ["--on", "--scale", "--set", "--seeds", "--workers", "--per-gpu", "--site", "--nodes",
               "--gpus-per-node", "--minutes", "--results", "--budget-gpu-hours", "--json",
               "--detach"],
    "status": ["--results", "--json", "--failures"],
    "retry": ["--on", "--workers", "--per-gpu", "--site", "--nodes", "--minutes", "--results"],
    "logs": ["--results"],
    "cancel": ["--results"],
    "compact": ["--results", "--undo", "--drop-checkpoints", "--json"],
    "search": ["--on", "--scale", "--set", "--trials", "--workers", "--per-gpu", "--pruner",
               "--site", "--results", "--json"],
    "study": ["--on", "--scale", "--set", "--seeds", "--workers", "--site", "--results", "--from",
              "--until", "--json"],
    "doctor": ["--site", "--results", "--json"],
    "report": ["--results", "--out", "--strict", "--compare", "--json"],
    "trainer": [],
    "dev_cluster": ["--nodes", "--gpus-per-node"],
}  # fmt: skip
ENVIRONMENT = {
    "SWEEPS_CACHE": ["", "/dev/null", "a_file", "/proc/x", "nowhere"],
    "HOME": ["", "/nonexistent", "a_file"], "XDG_CACHE_HOME": ["a_file", "/proc"],
    "XDG_CONFIG_HOME": ["a_file", "loop"], "COLUMNS": ["0", "-1", "abc", "1", "100000"],
    "TERM": ["", "dumb", "xterm"], "CUDA_VISIBLE_DEVICES": ["", "x", "-1", "0,0", ",,,"],
    "SLURM_CONF": ["/no", "a_file", ""], "PATH": ["", "/nonexistent"], "TMPDIR": ["/nonexistent"],
    "OMP_NUM_THREADS": ["abc", "0", "-1"], "WORLD_SIZE": ["x", "0"], "LANG": ["xx_YY"],
    "SLURM_JOB_ID": ["x"], "NO_COLOR": ["1"],
}  # fmt: skip
LIMITS = [(resource.RLIMIT_NOFILE, 8), (resource.RLIMIT_NOFILE, 20)]


@dataclass
class Case:
    """One command, and what was done to its surroundings before."""

    kind: str
    number: int
    command: str
    words: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    limit: tuple[int, int] | None = None
    stdout: str = ""
    damage: str = ""

    def __str__(self) -> str:
        more = {key: value for key, value in vars(self).items() if value and key not in ("words",)}
        return f"{self.command} {' '.join(map(ascii, self.words))[:400]} {more}"


def call(number: int, folder: Path) -> Case:
    """The wrong call of that number."""
    draw = random.Random(f"call {number}")
    command = draw.choices(list(MODULES), [20, 14, 6, 6, 6, 8, 10, 8, 1, 4, 5, 3])[0]
    os.mkfifo(folder / "fifo")
    (folder / "loop").symlink_to("loop")
    (folder / "nowhere").symlink_to("/nonexistent/x")
    odd = [*ODD, _odd_definition(draw, folder), _odd_site(draw, folder)]
    words = {
        "launch": ["--dry-run"], "search": ["--dry-run"], "study": ["--dry-run"],
        "doctor": ["--no-job"], "dev_cluster": [draw.choice(["status", "down"]), "--dir", "a_file"],
    }.get(command, [])  # fmt: skip
    natural = {"launch": "tiny.py", "search": "search.py", "study": "study.py"}.get(command, DONE)
    if command not in ("doctor", "dev_cluster", "trainer") and draw.random() < 0.9:
        # A retry of what is torn would train.
        names = [word for word in odd if command != "retry" or word != TORN]
        words.append(natural if draw.random() < 0.5 else draw.choice(names))
    if command == "trainer":
        words += [draw.choice([one for one in odd if one != "results"]) for _ in range(2)]
    if command == "logs" and draw.random() < 0.8:
        words.append(draw.choice([*odd, "lr", "lr0.01"]))
    for _ in range(draw.choice([0, 1, 1, 2, 3])):
        if OPTIONS[command]:
            option = draw.choice(OPTIONS[command])
            words.append(option)
            if option not in ("--json", "--undo", "--failures", "--strict", "--drop-checkpoints"):
                words.append(draw.choice(odd))
    if draw.random() < 0.1:
        words.insert(draw.randrange(len(words) + 1), draw.choice(["--help", "--", "-h", "x", "--"]))
        if command in ("launch", "search", "study"):
            words = ["--dry-run", *(word for word in words if word not in ("--dry-run", "--"))]
    if command == "retry" and (TORN in words or "--" in words):
        words = [word for word in words if word not in (TORN, "--")]
    case = Case("call", number, command, words)
    if draw.random() < 0.25:
        name = draw.choice(list(ENVIRONMENT))
        case.environment = {name: draw.choice(ENVIRONMENT[name])}
    if draw.random() < 0.08:
        case.limit = draw.choice(LIMITS)
    if draw.random() < 0.1:
        case.stdout = draw.choice(["full", "gone"])
    return case


def _odd_definition(draw: random.Random, folder: Path) -> str:
    source = draw.choice([one for one, _ in BAD.values()])
    kind = draw.choice(["sweep", "search", "study"])
    text = HEAD + source.replace("sweep", kind)
    path = folder / "odd.py"
    path.write_bytes(text.encode(errors="surrogateescape"))
    return "odd.py"


def _odd_site(draw: random.Random, folder: Path) -> str:
    text = draw.choice(
        ["", "=", "\x00", "partition = 5", "partition = 'a\\u001b[2J'", "[slurm]\nx = [1]",
         "name = 'x'", "query_seconds = -1", "query_seconds = 1e999", "setup = 'x'", "[[slurm]]",
         "x = " + "[" * 5000, "minutes = " + "9" * 5000, SITE + SITE, "\udcff", "a = 1" * 9,
         "[environment]\nA = 1",
         "account = '" + "x" * 9999 + "'", "gpu_request = 'x'"]
    )  # fmt: skip
    (folder / "odd.toml").write_bytes(text.encode(errors="surrogateescape"))
    return "odd.toml"


DAMAGE = [
    "truncate", "flip", "flip", "empty", "fifo", "folder", "nowhere", "loop", "zero", "socket",
    "huge", "other", "hidden", "gone", "twice", "null", "garbage", "deep", "device",
]  # fmt: skip


def damaged(number: int, folder: Path) -> Case:
    """The damaged file of that number, and the command that meets it."""
    draw = random.Random(f"file {number}")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    # Those of which there are few are as likely as those of which there are many.
    by_kind: dict[str, list[Path]] = {}
    for path in files:
        by_kind.setdefault(path.suffix + path.name[:4], []).append(path)
    victim = draw.choice(by_kind[draw.choice(sorted(by_kind))])
    sweep = next((one for one in (DONE, TORN, PACKED) if one in victim.parts), DONE)
    if draw.random() < 0.1:
        victim = draw.choice([victim.parent, *victim.parent.iterdir()])
    if victim in (folder, folder / "results"):
        victim = folder / "tiny.py"
    what = draw.choice(DAMAGE)
    harm(victim, what, draw, draw.choice(files))
    command = draw.choices(
        ["status", "launch", "retry", "logs", "cancel", "compact", "report", "search", "study",
         "trainer", "doctor"],
        [25, 15, 8, 6, 6, 18, 12, 2, 3, 5, 0.5],
    )[0]  # fmt: skip
    if command in ("retry",) and sweep == TORN:
        command = "status"
    if victim.name in ("search.py", "study.py", "site.toml"):
        command = {"search.py": "search", "study.py": "study", "site.toml": "launch"}[victim.name]
    words = {
        "status": draw.choice([[sweep], [sweep, "--json"], [], [sweep, "--failures"]]),
        "launch": ["tiny.py", "--dry-run", "--site", "site.toml", "--on", "local"],
        "retry": [sweep, "--on", "local", "--workers", "1"], "logs": [sweep, "lr0.01"],
        "compact": [sweep, *draw.choice([[], ["--undo"], ["--drop-checkpoints"]])],
        "cancel": [sweep],
        "report": draw.choice([[], [sweep]]), "search": ["search.py", "--dry-run"],
        "study": ["study.py", "--dry-run"], "trainer": [], "doctor": ["--no-job"],
    }[command]  # fmt: skip
    if command == "trainer":
        configs = sorted((folder / "results" / DONE).glob("*/config.json"))
        config = (
            victim if victim.name == trial_files.CONFIG else (configs or [folder / "a_file"])[0]
        )
        words = [str(config), str(folder / "results" / "tiny.py")]
        if config != victim:
            words[1] = str(folder / "a_file")
    else:
        words += ["--results", "results"]
    return Case("file", number, command, words, damage=f"{what} {victim.relative_to(folder)}")


def harm(victim: Path, what: str, draw: random.Random, other: Path) -> None:
    content = victim.read_bytes() if victim.is_file() else b"folder"
    if what in ("truncate", "flip", "garbage", "huge") and not victim.is_file():
        what = "fifo"
    if what == "truncate":
        victim.write_bytes(content[: draw.randrange(len(content) + 1)])
    elif what == "flip" and content:
        where = draw.randrange(len(content))
        flipped = content[where] ^ (1 << draw.randrange(8))
        victim.write_bytes(content[:where] + bytes([flipped]) + content[where + 1 :])
    elif what == "garbage":
        victim.write_bytes(draw.randbytes(200))
    elif what == "huge":
        os.truncate(victim, 2**33)
    elif what == "twice":
        copy = victim.with_name(draw.choice([f"x{victim.name}", f"{victim.stem}2{victim.suffix}"]))
        shutil.copytree(victim, copy) if victim.is_dir() else shutil.copy(victim, copy)
    elif what == "hidden":
        victim.chmod(0)
    else:
        shutil.rmtree(victim) if victim.is_dir() else victim.unlink()
        {
            "empty": victim.touch, "fifo": lambda: os.mkfifo(victim), "folder": victim.mkdir,
            "nowhere": lambda: victim.symlink_to("/nonexistent/x"), "flip": victim.touch,
            "loop": lambda: victim.symlink_to(victim), "socket": lambda: _socket(victim),
            "zero": lambda: victim.symlink_to("/dev/zero"), "gone": lambda: None,
            "device": lambda: os.mknod(victim, stat.S_IFCHR | 0o666, os.makedev(1, 5)),
            "other": lambda: shutil.copy(other, victim) if other.is_file() else victim.touch(),
            "null": lambda: victim.write_text("null"),
            "deep": lambda: victim.write_text("[" * 100_000),
        }[what]()  # fmt: skip


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path is bounded
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


# --- running a case ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    exit: int | None
    """None where it hung."""
    out: bytes
    said: str


def _command(command: str, words: list[str]) -> int:
    module = importlib.import_module(MODULES[command])
    sys.argv = [command, *words]
    try:
        run_command(module.app, words, shows=command in SHOWS)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1


def _in_child(act: Callable[[], int], folder: Path, case: Case | None = None) -> Outcome:
    """What comes of it in a process of its own."""
    out, err = folder / ".out", folder / ".err"
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        code = 99
        try:
            os.setpgid(0, 0)
            os.chdir(folder)
            for number, path in ((0, Path(os.devnull)), (1, out), (2, err)):
                os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), number)
            if case is not None:
                _surround(case)
            sys.stdout = os.fdopen(1, "w", closefd=False)
            sys.stderr = os.fdopen(2, "w", closefd=False)
            code = act()
            sys.stdout.flush()  # as Python does when it ends
        except BaseException:
            os.write(2, traceback.format_exc().encode(errors="backslashreplace"))
        finally:
            os._exit(code)
    code: int | None = None
    begun = looked = time.monotonic()
    used = -1
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            break
        now = time.monotonic()
        if now - begun > SECONDS and now - looked > IDLE_SECONDS:
            before, used, looked = used, _ticks(child), now
            # Beside others what works takes longer; what hangs does nothing, or never ends.
            if used == before or used > SECONDS * os.sysconf("SC_CLK_TCK"):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                break
        time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError):  # whatever it has started
        os.killpg(child, signal.SIGKILL)
    return Outcome(code, out.read_bytes(), err.read_text(errors="replace"))


def _ticks(group: int) -> int:
    """The processor time of a group of processes."""
    found = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            words = path.read_text(errors="replace").rpartition(")")[2].split()
            if int(words[2]) == group:
                found += sum(map(int, words[11:15]))
    return found


def _surround(case: Case) -> None:
    os.environ.update(case.environment)
    if case.stdout == "full":
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
    elif case.stdout == "gone":
        read, write = os.pipe()
        os.close(read)
        os.dup2(write, 1)
    if case.limit is not None:
        resource.setrlimit(case.limit[0], (case.limit[1], resource.getrlimit(case.limit[0])[1]))


def snapshot(folder: Path) -> dict[str, tuple[str, str]]:
    """What lies there: kind and content by path."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name, facts = str(path.relative_to(folder)), path.lstat()
        kind = stat.filemode(facts.st_mode)
        if path.is_symlink():
            what = str(path.readlink())
        elif path.is_file() and facts.st_size < 2**25:
            what = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            what = ""
        found[name] = kind, what
    return found


def lost(folder: Path, case: Case, before: dict[str, tuple[str, str]]) -> list[str]:
    """What is no longer as it was, although the command had no right to change it."""
    after = snapshot(folder)
    bad = []
    for name, was in before.items():
        if after.get(name) == was or name.endswith(".seen.json"):
            continue
        kind, digest = was
        if case.command == "compact" and "/compact" in name and "--undo" in case.words:
            continue
        if case.command == "compact" and kind.startswith("-"):
            with contextlib.suppress(Exception):
                if hashlib.sha256(trial_files.content(folder / name)).hexdigest() == digest:
                    continue
        if kind.startswith("d") and name in after and after[name][0].startswith("d"):
            continue
        bad.append(f"{name} was {kind}, is {after.get(name, ('gone', ''))[0]}")
    return bad


def faults(
    folder: Path, case: Case, outcome: Outcome, before: dict[str, tuple[str, str]]
) -> Iterator[str]:
    said = outcome.said
    if outcome.exit is None:
        yield "hangs"
        return
    if outcome.exit not in (0, 1, 2, 3, 130):
        yield f"exit code {outcome.exit}"
    for word in ("Traceback", "this is a bug", "Exception ignored"):
        if word in said:
            yield word
    kinds = {line.partition(": ")[0] for line in said.splitlines()}
    if outcome.exit in (2, 3) and not {"error", "help"} <= kinds:
        yield "a failure without error: and help:"
    if any(byte in outcome.out + said.encode() for byte in (b"\x1b", b"\x07", b"\x08")):
        yield "an escape sequence"
    yield from lost(folder, case, before)


def run(kind: str, number: int, template: Path) -> tuple[Case, Outcome, list[str]]:
    """One case, with what is wrong with its outcome."""
    with tempfile.TemporaryDirectory(prefix="fuzz-", ignore_cleanup_errors=True) as name:
        folder = Path(name) / "it"
        shutil.copytree(template, folder)
        case = {"call": call, "file": damaged}[kind](number, folder)
        before = snapshot(folder)
        outcome = _in_child(lambda: _command(case.command, case.words), folder, case)
        # In a child too: this process must start no threads of pyarrow's.
        found = Path(name) / "faults"

        def judge() -> int:
            found.write_text("\n".join(faults(folder, case, outcome, before)))
            return 0

        told = _in_child(judge, Path(name))
        assert told.exit == 0, told.said
        return case, outcome, found.read_text().splitlines()


def load_everything() -> None:
    for name in (
        *MODULES.values(),
        "torch",
        "trainer.train",
        "trainer.process_cache",
        "sweeps.cost.estimate",
        "sweeps.execution.worker",
        "sweeps.launching.dispatch",
        "sweeps.compact.archive_writer",
        "sweeps.study.runner",
        "sweeps.search.driver",
        "sweeps.doctor.slurm_limits",
        "analysis.cifar10.task",
        "analysis.sections.routing",
        "analysis.output.page",
        "analysis.cifar10.explain.grad_cam",
        "matplotlib.pyplot",
    ):
        importlib.import_module(name)
    for path in (ROOT / "analysis").rglob("*.py"):
        importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))


def make_template(folder: Path) -> Path:
    os.environ["SWEEPS_CACHE"] = str(folder / "cache")
    load_everything()
    template = folder / "template"
    template.mkdir()

    def act() -> int:
        build(template)
        return 0

    told = _in_child(act, folder)
    assert told.exit == 0, told.said
    return template


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEPS_CACHE", "")
        yield make_template(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("kind", "numbers"), [("call", range(60)), ("file", range(40))])
def test_odd_calls_and_files(template: Path, kind: str, numbers: range) -> None:
    wrong = []
    for number in numbers:
        case, outcome, found = run(kind, number, template)
        if found:
            wrong.append(
                f"python tests/test_fuzz.py {kind} {number}: {found}\n{case}\n{outcome.said}"
            )
    assert not wrong, "\n\n".join(wrong)


def main(words: list[str]) -> int:
    folder = Path(tempfile.mkdtemp(prefix="fuzz-template-"))
    try:
        template = make_template(folder)
        if words[0] in ("call", "file"):
            case, outcome, found = run(words[0], int(words[1]), template)
            print(case, outcome.out[:3000].decode(errors="replace"), outcome.said, found, sep="\n")
            return bool(found)
        first = int(words[2]) if len(words) > 2 else 0
        counts: Counter[str] = Counter()
        for kind, count in (("call", int(words[0])), ("file", int(words[1]))):
            for number in range(first, first + count):
                case, outcome, found = run(kind, number, template)
                counts[f"{kind}: exit {outcome.exit}"] += 1
                counts.update(f"{kind}: FAULT {one.partition(' was ')[2] or one}" for one in found)
                if found:
                    print(
                        f"\n{kind} {number}: {found}\n  {case}\n  {outcome.said[-1500:]}",
                        flush=True,
                    )
        for what, count in sorted(counts.items()):
            print(f"{count:5}  {what}")
        return any("FAULT" in what for what in counts)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
