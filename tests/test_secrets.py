"""Secrets: what looks like one is in no file below results/ and in no report."""

from __future__ import annotations

import json
import shlex
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from results_folder import fail, finish, folder_of, grid_points, write_plan
from results_folder import run as command
from test_queue import Slurm
from test_slurm_submit import slurm

from local_machine import origin
from local_machine.secrets import (
    MASK,
    is_secret,
    masked,
    masked_command,
    masked_values,
    masked_words,
)
from slurm.queue import Queue
from slurm.site import Resources, Site
from sweeps.cli.options import ScaleName, parse_settings, plan_of, typed_after
from sweeps.execution.slurm_submit import Submission
from sweeps.launching import dispatch
from sweeps.spec.expand import expand
from sweeps.spec.grid import grid
from sweeps.spec.sweep import Sweep
from sweeps.state.liveness import Liveness
from sweeps.state.plan import Plan
from sweeps.state.trial_store import TrialStore
from trainer.config import field_types
from trainer.recipes import reported
from trial_records.trial_files import FAILURE, Failure

ROOT = Path(__file__).parent.parent
__all__ = ["slurm"]

NAMES = st.sampled_from([
    "token", "password", "passwd", "secret", "api_key", "api-key", "apikey", "apiKey", "credential",
    "credentials", "auth", "bearer", "private_key", "HF_TOKEN", "WANDB_API_KEY", "key", "authToken",
    "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "access-token", "hub.token",
    "trainer.logger.api_key", "client_secret", "PGPASSWORD", "passphrase", "accesstoken",
    "X-Api-Key",
])  # fmt: skip
# Long enough that it is in nothing else by chance.
SECRETS = st.text(string.ascii_letters + string.digits + "._~+/-", min_size=12, max_size=40).filter(
    lambda text: text[0] not in "-./" and text[-1].isalnum() and not text.isalpha()
)
# Of any characters: where it is a word of its own, or the end of one.
ANY = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=12, max_size=40).filter(
    lambda text: text == text.strip() and text[0] != "-" and len(set(text)) > 6
)
LETTERS = st.text(string.ascii_letters + string.digits, min_size=36, max_size=40)
SHAPES = st.one_of(
    *(LETTERS.map(head.__add__) for head in ("hf_", "ghp_", "gho_", "github_pat_", "glpat-")),
    LETTERS.map(lambda text: f"sk-1{text}"),
    LETTERS.map(lambda text: f"sk-proj-0_{text}"),
    LETTERS.map(lambda text: f"xoxb-{text}"),
    LETTERS.map(lambda text: f"AKIA{text.upper()[:16]}"),
    LETTERS.map(lambda text: f"eyJ{text}.eyJ{text}.{text}"),
    LETTERS.map(
        lambda text: f"-----BEGIN RSA PRIVATE KEY-----\n{text}\n-----END RSA PRIVATE KEY-----"
    ),
)
ENV_NAMES = NAMES.map(lambda name: name.upper().replace("-", "_").replace(".", "_"))


def forms(name: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[list[str], str]]:
    """Words of a command line with a secret in them, and the secret."""
    pair = st.tuples(name, ANY)
    simple = st.tuples(name, SECRETS)
    return st.one_of(
        pair.map(lambda p: ([f"--{p[0]}", p[1]], p[1])),
        pair.map(lambda p: ([f"--{p[0]}={p[1]}"], p[1])),
        pair.map(lambda p: ([f"{p[0]}={p[1]}"], p[1])),
        pair.map(lambda p: ([f"+{p[0]}={p[1]}"], p[1])),
        pair.map(lambda p: (["--set", f"{p[0]}={p[1]}"], p[1])),
        pair.map(lambda p: ([f"--header={p[0]}: {p[1]}"], p[1])),
        st.tuples(ENV_NAMES, ANY).map(lambda p: ([p[0], p[1]], p[1])),
        st.tuples(ENV_NAMES, ANY).map(lambda p: ([f"--export=ALL,{p[0]}={p[1]}"], p[1])),
        simple.map(lambda p: ([json.dumps({"lr": 0.1, p[0]: p[1]})], p[1])),
        simple.map(lambda p: ([f"https://x.org/a?b=1&{p[0]}={p[1].replace('+', '')}&c=2"],
                              p[1].replace("+", ""))),
        LETTERS.map(lambda s: ([f"https://user:{s}@x.org/data"], s)),
        LETTERS.map(lambda s: ([f"postgresql://user:{s}@x.org:5432/db"], s)),
        LETTERS.map(lambda s: ([f"https://{s}@x.org/data.git"], s)),
        LETTERS.map(lambda s: (["-H", f"Authorization: Bearer {s}"], s)),
        SHAPES.map(lambda s: ([s], s)),
        SHAPES.map(lambda s: ([f"--note={s}"], s)),
        SHAPES.map(lambda s: ([f"/data/{s}"], s)),
    )  # fmt: skip


FORMS = forms(NAMES)
ORDINARY = st.lists(
    st.one_of(
        st.sampled_from([*field_types(), "epochs"]).map(lambda name: f"{name}=0.1"),
        st.sampled_from([
            "--set", "--results", "results/x", "tokenizer=bpe", "monkey=3", "optimizer.lr=0.1",
            "--scale", "cpu", "/data/tokens/key/secret.txt", "--sort-key", "name", "eos_token=</s>",
            "--max-tokens", "512", "keyboard=us", "author=me", "--no-auth", "token_dim=3",
            "git@github.com:x/y.git", "https://x.org/a?page=2", "wrn_28_10-seed42-86293a17",
            "passes=3", "bypass=1", "--workers=2", "compass=north", "token=false", "a:b", "x y",
        ]),
        st.text("0123456789abcdef", min_size=40, max_size=64),
    ),
    max_size=6,
)  # fmt: skip


@given(ORDINARY, FORMS, ORDINARY)
@example([], (["--password", 'a\'b "c" $d'], 'a\'b "c" $d'), [])
def test_a_secret_is_masked_in_a_command_and_nothing_else(
    before: list[str], form: tuple[list[str], str], after: list[str]
) -> None:
    words, secret = form
    assume(not any(secret in word for word in [*before, *after]))
    line = shlex.join(["python", *before, *words, *after])
    shown = masked_words(["python", *before, *words, *after])
    for found in (shlex.join(shown), masked_command(line)):
        assert secret not in found and shlex.quote(secret) not in found
        assert secret not in shlex.split(found)
        assert masked_command(found) == found
    assert shown[: 1 + len(before)] == ["python", *before]
    assert shown[len(shown) - len(after) :] == after or not after


@given(ORDINARY)
def test_an_ordinary_command_stays_as_it_is(words: list[str]) -> None:
    assert masked_words(words) == words
    line = shlex.join(words)
    assert masked_command(line) == masked(line) == line
    assert masked_command("it's not shell") == "it's not shell"


@pytest.mark.parametrize(
    "text",
    [
        "epoch 1/2  lr 0.1  train loss 0.5 accuracy 50.00 %",
        "KeyError: 'token'", "if token == other:", "size mismatch for attn.key: copying a param",
        "unexpected keyword argument 'key'", "git_commit=" + "0123456789" * 4,
        "File \"/x/secrets.py\", line 3, in password", "AssertionError: 3 tokens",
        "https://x.org/a?b=c&d=e", "user@host:/path", "ratio 3:4", "sk-learn",
        "task-0123456789012345",
    ],
)  # fmt: skip
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert masked(text) == text


@given(
    NAMES,
    SECRETS,
    st.sampled_from([
        "export {n}={s}", "export {n}='{s}'", '{n} = "{s}"', "{{'{n}': '{s}'}}",
        '{{"a": 1, "{n}": "{s}", "b": 2}}', "401 for https://x/?{n}={s}", "--{n} {s} --epochs 3",
        "ran: python x.py --{n}={s}", "Authorization: Bearer {s}", "{n}: '{s}'",
        "\\\"{n}\\\": \\\"{s}\\\"",
        "line\n{n}={s}\nline",
    ]),
)  # fmt: skip
def test_a_secret_is_masked_in_text(name: str, secret: str, form: str) -> None:
    secret = secret.replace("+", "") if "?" in form else secret
    assert secret not in masked(form.format(n=name, s=secret))


@given(SHAPES)
def test_a_well_known_shape_is_masked_anywhere(secret: str) -> None:
    for text in (secret, f"a {secret} b", f"'{secret}'", f"x={secret}", f"({secret}),"):
        assert secret not in masked(text) and MASK in masked(text)


def test_names() -> None:
    for name in ("token", "HF_TOKEN", "wandb-key", "a.b.password", "AWS_X", "APIKey", "token2"):
        assert is_secret(name), name
    for name in ("tokens", "tokenizer", "pad_token_id", "monkey", "PWD", "keys", "secretary", ""):
        assert not is_secret(name), name
    values = {"data.root": "https://u:hunter22@x/y", "hub.token": "abc", "epochs": 3, "key": "none"}
    assert masked_values(values) == {
        "data.root": f"https://u:{MASK}@x/y", "hub.token": MASK, "epochs": 3, "key": "none",
    }  # fmt: skip


# --- no file below results/, and no report -----------------------------------------------------

SECRET = "Zx9Qw7Er5Ty3Ui1"
WORDS = [
    "--api-key", SECRET, f"--token={SECRET}", f"https://me:{SECRET}@x.org/?sig={SECRET}",
    "WANDB_API_KEY", SECRET, f"AWS_SECRET_ACCESS_KEY={SECRET}",
]  # fmt: skip


def holds(folder: Path) -> list[Path]:
    """The files below a folder that hold the secret, in their names or their content."""
    files = [path for path in folder.rglob("*") if path.is_file() or path.is_symlink()]
    return [path for path in files if SECRET in path.name or SECRET.encode() in path.read_bytes()]


def test_a_plan_holds_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["launch", *WORDS])
    store = TrialStore(tmp_path, "sweep")
    sweep = Sweep(base=reported("resnet18"), space=grid({"epochs": [1]}))
    overrides = parse_settings([f"data.root=s3://me:{SECRET}@bucket"])
    command = typed_after("python -m sweeps.launch")
    plan = plan_of(sweep, store, ScaleName.FULL, overrides, None, command)
    assert SECRET not in plan.command and plan.command.startswith("python -m sweeps.launch ")
    assert SECRET not in plan.setting and SECRET not in json.dumps(plan.head())
    # What a trial's configuration says is its identity, and what it trains with.
    store.write_plan(Plan("sweep", expand(sweep), "full", plan.overrides, [], plan.command))
    assert holds(tmp_path) == []


def test_a_failure_holds_no_secret_and_an_old_one_shows_none(tmp_path: Path) -> None:
    said = f"HTTPError: 401 for https://x.org/?access_token={SECRET}"
    traceback = f'  post(url, headers={{"Authorization": "Bearer {SECRET}"}})\n{said}'
    tail = [f"ran python x.py --token {SECRET}", "epoch 1/2", said]
    Failure("ERROR", said, traceback, tail, 1, 0.0, "host").write(tmp_path)
    assert holds(tmp_path) == []
    path = tmp_path / FAILURE
    values = json.loads(path.read_bytes())
    del values["sha256"]
    assert len(values["log_tail"]) == 3 and values["log_tail"][1] == "epoch 1/2"
    path.write_text(json.dumps(values | {"exception": said, "log_tail": tail}))
    old = Failure.read(tmp_path)
    assert old is not None and SECRET not in str(old)
    assert Failure("ERROR", "", "", [], 1, 0.0, "host").log_tail == []


def test_an_attempts_command_and_a_workers_log_hold_no_secret(tmp_path: Path) -> None:
    code = """
import logging, sys
from sweeps.state.trial_store import TrialStore as Store
from sweeps.execution.worker import Worker
from sweeps.execution.worker_log import start_logging
from local_machine import origin
from pathlib import Path
worker = Worker(Store(Path("."), "x"), 0.0, "")
start_logging(worker.tail)
logging.getLogger().info("command %s", " ".join(sys.argv))
print(origin.attempt(), worker.tail)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, *WORDS], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert "--api-key" in done.stdout and "--api-key" in done.stderr
    assert SECRET not in done.stdout.replace(f"WANDB_API_KEY {SECRET}", "")
    assert SECRET not in done.stderr.replace(f"WANDB_API_KEY {SECRET}", "")
    assert SECRET not in json.dumps(origin.attempt())


def test_the_script_of_a_job_shows_and_leaves_no_secret(slurm: Slurm, tmp_path: Path) -> None:
    """The one that Slurm gets has it, of course."""
    sent = tmp_path / "sent"
    fake = tmp_path / "bin" / "sbatch"
    fake.write_text(f'#!/bin/bash\ncat "$@" >>{sent}\necho Submitted batch job 9\n')
    fake.chmod(0o755)
    plan = Plan("sweep", grid_trials(), "full", {}, [], "command")
    queue = Queue(min_seconds=0)
    site = Site(
        environment={"HF_TOKEN": SECRET, "MODE": "fast", "DSN": f"https://{SECRET}@x.org"},
        setup=(f"export API_KEY={SECRET}", "module load cuda"),
    )
    store = TrialStore(tmp_path / "results", "sweep", Liveness(queue))
    submission = Submission(store, plan, 1.0, site, Resources(), queue)
    script = dispatch.shown(submission.array("0" * 12, 2))
    assert script is not None and SECRET not in script
    assert "export MODE=fast" in script and "module load cuda" in script
    submission.trials(plan.trials)
    assert sent.read_text().count(SECRET) == 3
    assert holds(tmp_path / "results") == []
    fake.write_text("#!/bin/bash\necho sbatch: error: no >&2\nexit 1\n")
    with pytest.raises(Exception, match="refused"):
        submission.workers(2, [plan], retry=False)
    assert holds(tmp_path / "results") == []


def grid_trials() -> list[Any]:
    return expand(Sweep(base=reported("resnet18"), space=grid({"optimizer.lr": [0.1, 0.2]})))


@pytest.mark.long
def test_a_report_on_old_records_shows_no_secret(tmp_path: Path) -> None:
    results = tmp_path / "results"
    points = grid_points()[:2]
    line = shlex.join(["python", "-m", "sweeps.launch", *WORDS])
    write_plan(results, points, command=line, overrides={"hub.token": SECRET})
    finish(folder_of(results, points[0]), points[0][1], command=line)
    fail(folder_of(results, points[1]), "ERROR", f"401 for https://x/?token={SECRET}")
    path = folder_of(results, points[1]) / FAILURE
    values = json.loads(path.read_bytes())
    del values["sha256"]
    path.write_text(
        json.dumps(
            values | {"exception": f"401: password={SECRET}", "traceback": f"password={SECRET}"}
        )
    )
    assert command("--results", results, "--out", tmp_path / "report") == 0
    assert holds(tmp_path / "report") == [] and len(holds(results)) >= 2
    done = subprocess.run(
        [sys.executable, "-m", "sweeps.status", "grid", "--failures", "--results", str(results)],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert "password=" in done.stdout and SECRET not in done.stdout + done.stderr
