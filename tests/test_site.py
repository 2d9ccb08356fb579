"""Site, Resources and what submitit makes of them."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_machine.errors import SlurmError
from slurm.job_parameters import submitit_parameters
from slurm.send import Batch, log_pattern
from slurm.site import SITES, Resources, Site, find_site, sites

GOLDEN = Path(__file__).parent / "golden"

FULL = """\
# A site with every key.
partition = "gpu,long"
account = "my group"
qos = "high"
constraint = "a100&nvlink"
nodelist = "n[1-4]"
exclude = "n3"
gpu_request = "gpus_per_node"
gpu_type = "a100"
cpus_per_gpu = 8
mem_gb_per_gpu = 60
minutes = 240
signal_seconds = 120
max_array_size = 100
max_submit = 50
max_running = 4
query_seconds = 60
mps = true
python = "/opt/my python/bin/python"
setup = ["module load cuda", "source ~/env \\t&& true"]

[environment]
OMP_NUM_THREADS = "8"
GREETING = "it's $HOME `x` # \\\\ é"

[slurm]
mail-type = "FAIL"
nice = 100
exclusive = true
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    # submitit wants to see that it is on a cluster.
    srun = write(tmp_path / "bin", "#!/bin/sh\n", "srun")
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", str(srun.parent), prepend=os.pathsep)
    return tmp_path


def write(folder: Path, text: str, name: str = "mine.toml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def sbatch(site: Site, resources: Resources, *, tasks: int = 1, **names: str) -> str:
    """The text that submitit sends, with the folder and interpreter of no machine."""
    names = {"name": "grid", "comment": "sweep=grid token=0123abcd"} | names
    batch = Batch(site, resources, logs=Path("/FOLDER"), module="MODULE", tasks=tasks, **names)
    return batch.script().replace(shlex.quote(sys.executable), "PYTHON")


@pytest.mark.parametrize(
    ("golden", "resources", "tasks"),
    [
        ("default", Resources(), 1),
        ("dev_cluster", Resources(nodes=2, gpus_per_node=2), 1),
        ("a100_preemptible", Resources(gpus_per_node=4, minutes=90), 100),
        ("cpu_nodes", Resources(cpus_per_gpu=4, mem_gb_per_gpu=3), 7),
        ("full", Resources(gpus_per_node=2), 3),
    ],
)
def test_golden(golden: str, resources: Resources, tasks: int, tmp_path: Path) -> None:
    site = find_site(write(tmp_path, FULL) if golden == "full" else golden)
    text = sbatch(site, resources, tasks=tasks)
    path = GOLDEN / f"{golden}.sbatch"
    if os.environ.get("WRITE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text(), (
        "if the change is meant: WRITE_GOLDEN=1 pytest tests/test_site.py"
    )
    assert subprocess.run([shutil.which("bash") or "bash", "-n", path], check=False).returncode == 0


def test_every_job_is_requeued_warned_and_goes_on_in_its_log() -> None:
    for name in sites():
        lines = sbatch(find_site(name), Resources(gpus_per_node=3)).splitlines()
        assert "#SBATCH --requeue" in lines and "#SBATCH --open-mode=append" in lines
        assert "#SBATCH --ntasks-per-node=3" in lines
        assert any(line.startswith("#SBATCH --signal=USR2@") for line in lines)
        assert any(re.fullmatch(r"#SBATCH --time=\d+", line) for line in lines)
        assert not any("wckey" in line or "--error" in line for line in lines)


def test_srun_is_told_the_cpus_again() -> None:
    text = sbatch(replace(Site(), cpus_per_gpu=8), Resources())
    assert "#SBATCH --cpus-per-task=8" in text and re.search(r"\nsrun .*--cpus-per-task=8 ", text)
    assert "cpus-per-task" not in sbatch(Site(), Resources())


@pytest.mark.parametrize(
    ("style", "kind", "line"),
    [
        ("gres", "", "#SBATCH --gres=gpu:2"),
        ("gres", "a100", "#SBATCH --gres=gpu:a100:2"),
        ("gpus_per_node", "", "#SBATCH --gpus-per-node=2"),
        ("gpus_per_node", "a100", "#SBATCH --gpus-per-node=a100:2"),
    ],
)
def test_the_styles_of_asking_for_gpus(style: str, kind: str, line: str) -> None:
    text = sbatch(Site(gpu_request=style, gpu_type=kind), Resources(gpus_per_node=2))
    assert line in text.splitlines()
    assert "gpu" not in sbatch(Site(gpu_request="none"), Resources(gpus_per_node=2))


def test_resources_go_before_the_site() -> None:
    site = Site(minutes=60, cpus_per_gpu=8, mem_gb_per_gpu=10)
    own = Resources(gpus_per_node=2, cpus_per_gpu=1, mem_gb_per_gpu=3, minutes=5)
    ours = submitit_parameters(site, own, name="n", comment="c")
    assert (ours["time"], ours["cpus_per_task"], ours["mem"]) == (5, 1, "6GB")
    theirs = submitit_parameters(site, Resources(), name="n", comment="c")
    assert (theirs["time"], theirs["cpus_per_task"], theirs["mem"]) == (60, 8, "10GB")
    assert type(ours["time"]) is int


def test_the_throttle_of_an_array() -> None:
    assert "#SBATCH --array=0-8%3" in sbatch(Site(max_running=3), Resources(), tasks=9)
    assert "#SBATCH --array=0-8%9" in sbatch(Site(), Resources(), tasks=9)


def test_every_key_is_read(tmp_path: Path) -> None:
    site = find_site(write(tmp_path, FULL))
    assert site.name == "mine"
    assert [each.name for each in fields(Site) if getattr(site, each.name) == each.default] == []
    assert site.setup == ("module load cuda", "source ~/env \t&& true")
    assert shlex.split(site.interpreter) == ["/opt/my python/bin/python"]
    assert Site().interpreter


def test_where_sites_are_found(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sites() == sorted(path.stem for path in SITES.glob("*.toml"))
    assert all(find_site(name).name == name for name in sites())
    folder = home / "config" / "sweeps" / "sites"
    write(folder, 'partition = "own"', "dev_cluster.toml")
    path = write(folder, "minutes = 7", "lab.toml")
    assert "lab" in sites() and find_site("lab").minutes == 7
    assert find_site("dev_cluster").partition == "own"
    assert find_site(path) == find_site(str(path)) == find_site("lab")
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(home))
    write(home / ".config" / "sweeps" / "sites", "", "athome.toml")
    assert find_site("athome") == replace(Site(), name="athome")


@pytest.mark.parametrize("name", ["dev_clutser", "", "../sites/default", "/etc/passwd", "a\0b"])
def test_an_unknown_site(name: str) -> None:
    with pytest.raises(SlurmError, match="no site is called") as caught:
        find_site(name)
    assert caught.value.exit_code == 2
    nearest = {"dev_clutser": "'dev_cluster'", "../sites/default": "'default'"}
    assert nearest.get(name, "choose one of") in caught.value.help


@pytest.mark.parametrize(
    ("text", "line", "what", "help"),
    [
        ('\n\nparitition = "gpu"\n', 3, "'paritition'", "'partition'"),
        ("minutes = 5\n# minute = 3\nminute = 5\n", 3, "'minute'", "'minutes'"),
        ('partition = 3 # partition = "x"\n', 1, "partition is 3", "text"),
        ("qos = 'x'\nminutes = 5.0\n", 2, "minutes is 5.0", "whole number"),
        ("minutes = true\n", 1, "minutes is True", "whole number"),
        ('minutes = "5"\n', 1, "minutes is '5'", "whole number"),
        ("minutes = 0\n", 1, "minutes is 0", "whole number"),
        ("cpus_per_gpu = -1\n", 1, "cpus_per_gpu is -1", "whole number"),
        ("preemptible = true\n", 1, "unknown key 'preemptible'", "choose one of"),
        ('setup = "module load x"\n', 1, "setup is", "list of lines"),
        ('setup = ["a", 1]\n', 1, "setup is", "list of lines"),
        ('setup = [\n "a\\nb"\n]\n', 1, "setup is", "list of lines"),
        ('gpu_request = "gpus"\n', 1, "gpu_request is 'gpus'", "gpus_per_node"),
        ('gpu_type = "a100:4"\n', 1, "gpu_type is", "name alone"),
        ('partition = "a\\nb"\n', 1, "partition is 'a\\nb'", "one line"),
        ('account = "a\\u001b[31m"\n', 1, "account is", "one line"),
        ('account = "a\\\\b"\n', 1, "account is", "backslash"),
        ('name = "other"\n', 1, "name of its file", "delete"),
        ("environment = 3\n", 1, "environment is 3", "[environment]"),
        ("[environment]\nA = 'x'\nB = 4\n", 3, "environment.B is 4", "text"),
        ("minutes = 5\n[environment]\n'A B' = 'x'\n", 3, "environment.A B", "letters"),
        ("[slurm]\nnice = 1\n[environment]\nnice = 2\n", 4, "environment.nice", "text"),
        ("environment.A = 'x'\nenvironment.B = 4\n", 2, "environment.B", "text"),
        ("minutes = 5\nenvironment = { A = 4 }\n", 2, "environment.A", "text"),
        ("[slurm]\nmail_type = 'x'\n", 2, "slurm.mail_type", "mail-type"),
        ("[slurm]\n'nice --x' = 'x'\n", 2, "slurm.nice --x", "mail-type"),
        ("[slurm]\nexclusive = false\n", 2, "slurm.exclusive is False", "true"),
        ("[slurm]\nmail-type = 'x\ty'\n", 2, "slurm.mail-type is", "text"),
        ("[slurm]\npartition = 'x'\n", 2, "slurm.partition is set", "own keys"),
        ("[slurm]\nntasks = 4\n", 2, "slurm.ntasks is set", "own keys"),
        ("[slurm]\nchdir = '/'\n", 2, "slurm.chdir cannot be used: the jobs find", "delete"),
        ("[slurm]\nwait = true\n", 2, "slurm.wait cannot be used: a launch would wait", "delete"),
        ("[slurm]\ntest-only = true\n", 2, "sbatch would send no job", "delete"),
        ("[slurm]\noutp = 'x'\n", 2, "would be taken for 'output'", "in full"),
        ("[slurm]\nget = true\n", 2, "would be taken for 'get-user-env'", "in full"),
        ("minutes = 5\nminutes 6\n", 2, "at line 2", "TOML"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(
    tmp_path: Path, text: str, line: int, what: str, help: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(SlurmError) as caught:
        find_site(path)
    assert f"{path}:{line}: " in caught.value.what or f"at line {line}," in caught.value.what
    assert what in caught.value.what and help in caught.value.help
    assert caught.value.exit_code == 2


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(SlurmError, match="no such file"):
        find_site(tmp_path / "nothing.toml")
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(SlurmError, match="directory"):
        find_site(tmp_path / "folder.toml")
    (tmp_path / "latin.toml").write_bytes(b"account = '\xe9'")
    with pytest.raises(SlurmError, match="UTF-8"):
        find_site(tmp_path / "latin.toml")


@pytest.mark.parametrize(
    "values", [{"nodes": 0}, {"nodes": 1.0}, {"gpus_per_node": True}, {"minutes": "5"},
               {"cpus_per_gpu": 0}, {"mem_gb_per_gpu": 2.5}, {"nodes": None}]
)  # fmt: skip
def test_resources_are_whole_numbers(values: dict[str, Any]) -> None:
    with pytest.raises(SlurmError, match=f"resources: {next(iter(values))} is") as caught:
        Resources(**values)
    assert caught.value.exit_code == 2


def test_a_site_made_in_code_is_checked_too() -> None:
    with pytest.raises(SlurmError, match="partition is 'a\\\\nb'"):
        Site(partition="a\nb")
    with pytest.raises(SlurmError, match=r"slurm\.wrap"):
        Site(slurm={"wrap": "rm -r x"})


def test_a_warning_that_would_come_before_the_start() -> None:
    with pytest.raises(SlurmError, match="signal_seconds is 90, and the job has 1 min"):
        submitit_parameters(Site(), Resources(minutes=1), name="n", comment="c")


@pytest.mark.parametrize("text", ["", "a\nb", "a\r", "a\0b", "\x1b[2J", "a\\b", "a\u2028b", "\x7f"])
def test_names_and_comments_that_are_refused(text: str) -> None:
    with pytest.raises(SlurmError, match="job name"):
        sbatch(Site(), Resources(), name=text)
    with pytest.raises(SlurmError, match="comment"):
        sbatch(Site(), Resources(), comment=text)


@settings(deadline=None)
@given(text=st.text(min_size=1))
def test_what_is_not_refused_stays_one_quoted_word(text: str) -> None:
    try:
        lines = sbatch(
            Site(account=text, slurm={"mail-user": text}), Resources(), name=text, comment=text
        ).split("\n")
    except SlurmError:
        assert not text.isprintable() or "\\" in text
        return
    for key in ("job-name", "comment", "account", "mail-user"):
        (line,) = [line for line in lines if line.startswith(f"#SBATCH --{key}")]
        assert shlex.split(line.removeprefix("#SBATCH ")) == [f"--{key}={text}"]


@settings(deadline=None)
@given(text=st.text(st.characters(exclude_categories=["C", "Zl", "Zp", "Zs"]) | st.just(" ")))
def test_variables_arrive_in_bash_as_they_are(text: str) -> None:
    (line,) = submitit_parameters(
        Site(environment={"A": text}), Resources(), name="n", comment="c"
    )["setup"]
    assert shlex.split(line) == ["export", f"A={text}"]


@pytest.mark.parametrize("name", ["gpus", "export", "hold", "begin", "dependency", "reservation",
                                  "mem-per-cpu", "kill-on-invalid-dep", "exclusive"])  # fmt: skip
def test_options_that_lose_nothing_are_taken(name: str) -> None:
    assert f"#SBATCH --{name}=1" in sbatch(Site(slurm={name: 1}), Resources())


def test_a_site_that_passes_nothing_on_leaves_a_job_what_it_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SWEEPS_CACHE", "/my cache")
    monkeypatch.setenv("PYTHONPATH", "code")
    site = Site(slurm={"export": "NONE"}, environment={"PYTHONPATH": "its own"})
    setup = submitit_parameters(site, Resources(), name="n", comment="c")["setup"]
    script = "\n".join([*setup, 'echo "$SWEEPS_CACHE $PYTHONPATH ${SLURM_EXPORT_ENV-gone}"'])
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True,
                          env={"SLURM_EXPORT_ENV": "NONE"})  # fmt: skip
    assert done.stdout == "/my cache its own gone\n"


@given(text=st.text(min_size=1), array=st.booleans())
def test_a_path_is_said_so_that_slurm_reads_it_as_it_is(text: str, array: bool) -> None:
    """Slurm's page on filename patterns: %% is a percent sign, and a backslash ends them all."""
    try:
        pattern = log_pattern(Path("/", text), array=array)
    except SlurmError:
        assert not str(Path("/", text)).isprintable() or "\\" in text
        return
    values = {"%": "%", "A": "12", "a": "3", "j": "12", "t": "0"}
    read = re.sub("%(.)", lambda found: values[found[1]], pattern)
    assert read == f"{Path('/', text)}/{'12_3' if array else '12'}_0_log.out"


def test_variables_are_not_expanded_by_a_real_bash() -> None:
    hostile = 'it\'s "$HOME" `id` $(id) # \\ ; é !x *'
    site = Site(environment={"A": hostile}, setup=("export B=$((1 + 1))",))
    setup = submitit_parameters(site, Resources(), name="n", comment="c")["setup"]
    script = "\n".join([*setup, 'printf %s "$B:$A"'])
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == f"2:{hostile}"


def test_the_document_has_every_key_with_its_default() -> None:
    """In the words of the class, whose docstrings follow the fields."""
    tree = ast.parse((SITES.parent / "site.py").read_text())
    (body,) = (
        one.body for one in tree.body if isinstance(one, ast.ClassDef) and one.name == "Site"
    )
    words = {
        one.target.id: " ".join(str(after.value.value).split())
        for one, after in pairwise(body)
        if isinstance(one, ast.AnnAssign)
        and isinstance(one.target, ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
    }
    rows = []
    for each in fields(Site):
        if each.name != "name":
            default = getattr(Site(), each.name)
            shown = f"`{json.dumps(default)}`" if default or default is False else "-"
            rows.append(f"| `{each.name}` | {shown} | {words[each.name]} |")
    document = (SITES.parents[1] / "docs" / "slurm.md").read_text()
    assert "\n".join(rows) in document
