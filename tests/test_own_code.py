"""A person's own network, loss, optimizer and metrics in the trainer."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from own_code import CODE, DEFINITION, TINY, all_own, written
from saved_trials import state_of

from analysis.cifar10.explain.grad_cam import grad_cam
from analysis.cifar10.explain.tested import Images, weights
from analysis.cifar10.task import load as load_study
from analysis.interactive import rows
from analysis.interactive.columns import columns
from local_machine import origin
from local_machine.code import references
from local_machine.errors import InputError
from local_machine.files import matching
from sweeps import Search, Sweep, grid, log_uniform, maximize
from sweeps.search.outcome import outcome
from sweeps.spec.expand import expand
from sweeps.spec.scale import Scale
from sweeps.task import Objective
from trainer import models
from trainer.alone import train_alone
from trainer.config import LOGGED, TrainConfig
from trainer.data.datasets import load
from trainer.models.own import cam_layer
from trainer.models.registry import check_timm
from trainer.own.rehearsal import rehearse
from trainer.perf import roofline
from trainer.task import task
from trial_records.columns import EPOCHS_SCHEMA
from trial_records.tables import read_epochs
from trial_records.trial_files import RUN

ROOT = Path(__file__).parent.parent
HAS_TIMM = references.code_of("timm:x") is not None


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return written(tmp_path / "theirs")


# --- names and identity ------------------------------------------------------------------------


def test_a_file_has_one_name_from_any_working_directory(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = set()
    for folder, name in ((own.parent, "own.py"), (own.parents[1], "theirs/own.py"), (ROOT, own)):
        monkeypatch.chdir(folder)
        found.add(TINY.override({"model.name": f"{name}:Net"}).fingerprint)
    assert found == {TINY.override({"model.name": f"{own}:Net"}).fingerprint}
    # A module that lies in no package is a file; one that is installed, or in a package, is not.
    monkeypatch.syspath_prepend(str(own.parent))
    assert references.whole("own:Net") == f"{own}:Net"
    for name in ("json:dumps", "trainer.models.resnet:resnet18", "torch:zeros"):
        assert references.whole(name) == name


def test_stored_values_need_no_file(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = json.loads(all_own(own).to_json())
    own.unlink()
    assert TrainConfig.from_json(json.dumps(values)).fingerprint == all_own(own).fingerprint


def test_what_has_no_own_code_is_what_it_was() -> None:
    assert TrainConfig().own == {}
    assert {name for name in EPOCHS_SCHEMA.names if name != "epoch"} == set(LOGGED)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"model.name": "nowhere.py:Net"}, "there is no file nowhere.py in"),
        ({"model.name": "own.py:"}, "is not a reference to code"),
        ({"model.name": "OWN:Net", "model.width": 0.5}, "model.width=0.5 is for this project's"),
        ({"model.name": "OWN:Net", "model.stem": "imagenet"}, "model.stem=imagenet is for"),
        ({"model.name": "OWN:Net", "model.patch": 8}, "model.patch=8 is for"),
        ({"model.name": "OWN:Net", "model.dropout": 0.1}, "model.dropout=0.1 is for"),
        ({"model.name": "OWN:Net", "hard_fraction": 0.5}, "needs a narrower network"),
        ({"model.name": "timm:"}, "names no network of timm"),
        ({"loss": "mse"}, "should be 'cross_entropy', or name your own"),
        ({"optimizer.name": "rmsprop"}, "'sgd', 'adamw' or 'muon', or name your own"),
        ({"metrics": ["accuracy"]}, "is not a reference to code"),
        ({"metrics": ["OWN:val_accuracy"]}, "column 'val_accuracy' of the results has that name"),
        ({"metrics": ["OWN:Epoch"]}, "column 'Epoch'"),
        ({"metrics": ["OWN:f", "json:f"]}, "two metrics are called 'f'"),
    ],
)
def test_what_can_be_known_at_once_is_refused_at_once(
    own: Path, changes: dict[str, Any], what: str
) -> None:
    named = json.loads(json.dumps(changes).replace("OWN", str(own)))
    with pytest.raises(InputError) as caught:
        TINY.override(named)
    assert what in caught.value.what and caught.value.help


def test_a_smaller_scale_leaves_an_own_network_as_wide_as_it_is(own: Path) -> None:
    (trial,) = expand(Sweep(all_own(own)), scale=Scale.SMOKE)
    assert trial.config.model.width == 1.0 and trial.config.epochs < 100
    assert trial.name.startswith("own.Net-seed42-")
    varied = Sweep(all_own(own), space=grid({"model.name": ["resnet18", f"{own}:Net"]}))
    assert [one.name.partition("-")[0] for one in expand(varied)] == ["resnet18", "own.Net"]


# --- refused by the rehearsal of a launch ------------------------------------------------------

BAD = {
    "it raises": (
        "model.name", "def f(classes):\n    raise OSError('no weights')",
        "fails: OSError: no weights",
    ),
    "no module": ("model.name", "def f(classes):\n    return 3", "returned a int, not a network"),
    "another parameter": (
        "model.name", "def f(classes, depth): ...", "has a parameter 'depth', which nothing",
    ),
    "no logits": (
        "model.name",
        "from torch import nn\ndef f():\n    return nn.Sequential(nn.Conv2d(3, 5, 3))",
        "makes a tensor of shape [2, 5, 30, 30] of 2 images of 10 classes",
    ),
    "as many logits as another data set has": (
        "model.name",
        "from torch import nn\ndef f():\n    return nn.Sequential(nn.Flatten(), nn.LazyLinear(7))",
        "makes a tensor of shape [2, 7]",
    ),
    "its forward raises": (
        "model.name",
        "from torch import nn\ndef f():\n    return nn.Sequential(nn.Flatten(), nn.Linear(5, 10))",
        "on images of shape [2, 3, 32, 32] fails: RuntimeError",
    ),
    "no parameters": (
        "model.name",
        "from torch import nn\nclass f(nn.Module):\n"
        "    def forward(self, x): return x.mean((2, 3)).repeat(1, 4)[:, :10]",
        "has no parameter to train",
    ),
    "no such name": ("model.name", "g = 1", "has no 'f'"),
    "not to be called": ("loss", "f = 1", "f of"),
    "a syntax error": ("loss", "def f(:", "SyntaxError"),
    "a vector": (
        "loss", "def f(logits, targets): return logits[:, 0]",
        "returned a tensor of torch.float32 and shape [20], not a scalar",
    ),
    "a number": ("loss", "def f(logits, targets): return 0.5", "returned a float, not a scalar"),
    "a loss for indices": (
        "loss", "def f(logits, targets): return logits.gather(1, targets[:, None]).mean()",
        "probabilities [20, 10], since label_smoothing",
    ),
    "no gradient": (
        "loss", "def f(logits, targets): return logits.detach().mean()", "the gradient of loss",
    ),
    "no optimizer": ("optimizer.name", "def f(parameters): return parameters", "not an optimizer"),
    "an optimizer that raises": (
        "optimizer.name", "def f(parameters, lr): raise ValueError('lr')", "fails: ValueError: lr",
    ),
    "no number": ("metrics", "def f(logits, targets): return 'good'", "returned a str, not a num"),
    "a metric that raises": ("metrics", "def f(logits): return 1", "the metric f fails: TypeError"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_code_that_does_not_work_is_refused_before_anything_is_sent(
    name: str, tmp_path: Path
) -> None:
    field, code, what = BAD[name]
    file = written(tmp_path, code, f"own_{abs(hash(name))}.py")
    reference: Any = [f"{file}:f"] if field == "metrics" else f"{file}:f"
    config = TINY.override({"model.width": 0.125, field: reference} | ({
        "model.width": 1.0} if field == "model.name" else {}))  # fmt: skip
    with pytest.raises(InputError) as caught:
        task.try_out([config])
    assert what in caught.value.what and caught.value.help
    assert field.partition(".")[0] in caught.value.what or field == "metrics"


def test_a_file_that_is_gone_is_named(own: Path) -> None:
    config = all_own(own)
    own.unlink()
    with pytest.raises(InputError, match="which is not there"):
        rehearse([config])


def test_a_loss_gets_indices_where_nothing_makes_targets_soft(tmp_path: Path) -> None:
    code = (
        "def f(logits, targets): return -logits.log_softmax(1).gather(1, targets[:, None]).mean()"
    )
    file = written(tmp_path, code)
    rehearse([TINY.override({"loss": f"{file}:f", "label_smoothing": 0.0, "model.width": 0.125})])


@pytest.mark.skipif(HAS_TIMM, reason="timm is installed")
def test_without_timm_its_networks_are_refused_by_name() -> None:
    config = TINY.override({"model.name": "timm:resnet10t"})
    with pytest.raises(InputError, match="timm:resnet10t needs the module timm") as caught:
        task.check([config], 1)
    assert caught.value.help == "install it: pip install timm"


@pytest.mark.skipif(not HAS_TIMM, reason="timm is not installed")
def test_a_network_of_timm() -> None:
    check_timm("timm:resnet10t")
    rehearse([TINY.override({"model.name": "timm:resnet10t"})])
    with pytest.raises(InputError, match="has no network 'resnet11t'"):
        models.build(TINY.override({"model.name": "timm:resnet11t"}).model, 10)


# --- trained -----------------------------------------------------------------------------------


class Interruption(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize("name", ["plain", "mixed", "averaged"])
def test_resume_is_exact(name: str, own: Path, tmp_path: Path) -> None:
    more: dict[str, Any] = {
        "plain": {"label_smoothing": 0.0},
        "mixed": {"augment.mixup": 0.2, "augment.cutmix": 1.0, "augment.first_size": 24},
        "averaged": {"optimizer.ema_decay": 0.9, "schedule.every": "step"},
    }[name]
    config = all_own(own).override(more)

    def interrupt(row: dict[str, Any]) -> None:
        if row["epoch"] == 0:
            raise Interruption

    with pytest.raises(Interruption):
        train_alone(config, tmp_path / "broken", interrupt)
    rows = [train_alone(config, tmp_path / one) for one in ("broken", "whole")]
    clocks = ["seconds", "images_per_second"]
    epochs = [read_epochs(tmp_path / one).drop_columns(clocks) for one in ("broken", "whole")]
    assert epochs[0].to_pylist() == epochs[1].to_pylist()
    assert rows[0]["predictions_sha256"] == rows[1]["predictions_sha256"]
    last = epochs[0].to_pylist()[-1]
    for metric in ("macro_recall", "confidence"):
        assert rows[1][f"last.{metric}"] == last[metric] and 0 < last[metric] <= 1
        assert rows[1][f"final.{metric}"] > 0
    assert rows[1]["parameters"] == 1_578 and rows[1]["flops_per_image"] > 0
    assert math.isfinite(last["train_loss"])


def test_the_own_loss_is_what_is_trained_on(own: Path, tmp_path: Path) -> None:
    """Cross-entropy written by oneself is cross-entropy: hard, smoothed, and of mixed images."""
    file = written(tmp_path / "more", CODE)
    for place, more in enumerate(({"label_smoothing": 0.0}, {"augment.mixup": 0.4})):
        plain = TINY.override({**more, "model.name": f"{file}:Net", "epochs": 1})
        out, other = tmp_path / f"{place}-plain", tmp_path / f"{place}-own"
        train_alone(plain, out)
        train_alone(plain.override({"loss": f"{file}:loss"}), other)
        for column in ("train_loss", "val_loss"):
            found, expected = (read_epochs(one)[column][0].as_py() for one in (other, out))
            assert found == pytest.approx(expected, rel=1e-4)


COMPILED = """
import torch
from torch import nn


def net(num_classes):
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, num_classes),
    )


def loss(logits, targets):
    return -(targets * logits.log_softmax(1)).sum(1).mean()


class Counts(torch.optim.SGD):
    def step(self, closure=None):
        self.param_groups[0]["steps"] = self.param_groups[0].get("steps", 0) + 1
        super().step(closure)


def counts(parameters, lr):
    return Counts(parameters, lr=lr)
"""


def test_a_compiled_step_is_the_eager_one(tmp_path: Path) -> None:
    """Also of an optimizer that counts in Python: compiling takes no step of it."""
    file = written(tmp_path, COMPILED)
    config = TINY.override(
        {
            "compile": "on", "batch_size": 60, "model.name": f"{file}:net", "loss": f"{file}:loss",
            "optimizer.name": f"{file}:counts",
        }
    )  # fmt: skip
    out, eager = tmp_path / "compiled", tmp_path / "eager"
    steps = []

    def count(row: dict[str, Any]) -> None:
        if row["epoch"] == 0:
            state = state_of(out, config.fingerprint)
            steps.append(state["optimizer"]["param_groups"][0]["steps"])

    assert train_alone(config, out, count)["step_used"] == "compiled"
    train_alone(config.override({"compile": "off"}), eager)
    found, expected = (read_epochs(one)["train_loss"].to_pylist() for one in (out, eager))
    assert found == pytest.approx(expected, rel=1e-3)
    assert steps == [3]


def test_what_fails_in_training_is_told_by_its_name(tmp_path: Path) -> None:
    code = CODE + "\ncalls = []\ndef late(logits, targets):\n    calls.append(1)\n    return None\n"
    file = written(tmp_path, code)
    config = all_own(file).override({"metrics": [f"{file}:late"]})
    with pytest.raises(InputError, match="the metric late returned a NoneType"):
        train_alone(config, tmp_path / "out")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_a_step_costs_is_counted(precision: Any, own: Path) -> None:
    config = all_own(own).model
    cost = roofline.count(config, precision, 4)
    assert cost.parameters == 1_578
    # Two convolutions (16x16 and 8x8) and the classifier; backward without the images' gradient.
    forward = 2 * (16 * 16 * 8 * 27 + 8 * 8 * 16 * 72 + 16 * 10)
    assert sum(op.flops for op in cost.forward) == 4 * forward
    assert task.memory(all_own(own)) > 0


def test_what_no_shapes_tell_is_trained_without_a_cost(tmp_path: Path) -> None:
    body = "return self.head(self.drop(self.features(x).relu().mean((2, 3))))"
    assert body in CODE
    file = written(tmp_path, CODE.replace(body, f"float(x.sum()); {body}"))
    config = all_own(file)
    assert task.memory(config) == 0.0
    row = train_alone(config.override({"epochs": 1}), tmp_path / "out")
    assert row["flops_per_image"] is None and row["test_accuracy"] >= 0


# --- explained ---------------------------------------------------------------------------------


def test_grad_cam_finds_the_last_map(own: Path, tmp_path: Path) -> None:
    config = all_own(own).override({"epochs": 1})
    train_alone(config, tmp_path / "out")
    data = load(config.data)
    images = Images(data.test_images, data.classes, data.mean, data.std)
    rows = torch.arange(4).numpy()
    state = weights(tmp_path / "out", config.fingerprint)
    look = grad_cam(config, state, images, rows, data.test_labels[rows])
    assert look is not None and look.layer == "features"
    assert look.maps.shape == (4, 32, 32) and look.maps.max() == 1


def test_the_layer_of_grad_cam_may_be_given(own: Path) -> None:
    network = models.build(all_own(own).model, 10).eval()
    images = torch.zeros(1, 3, 32, 32)
    for given, found in (("features.0", "features.0"), (None, None)):
        network.cam_layer = given  # type: ignore[assignment]
        assert cam_layer(network, images) == found
    network.cam_layer = "features.9"  # type: ignore[assignment]
    with pytest.raises(InputError, match="has no such layer"):
        cam_layer(network, images)
    flat = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 10))
    assert cam_layer(flat, images) is None


def test_a_report_runs_no_code_that_others_may_write(own: Path) -> None:
    own.chmod(0o666)
    none = Images(torch.zeros(1, 32, 32, 3).byte().numpy(), ("a", "b"), (0, 0, 0), (1, 1, 1))
    with pytest.raises(InputError, match="a file that others may write"):
        grad_cam(all_own(own), {}, none, torch.arange(1).numpy(), torch.arange(1).numpy())


# --- as an objective ---------------------------------------------------------------------------


def test_a_search_by_an_own_metric(own: Path, tmp_path: Path) -> None:
    config = all_own(own).override({"epochs": 1})
    search = Search(
        config, {"optimizer.lr": log_uniform(1e-3, 0.1)}, objective=maximize("macro_recall")
    )
    assert search.goal == Objective("macro_recall") and not search.is_trainers
    assert search.trained_by.planned.metric == "macro_recall"
    row = train_alone(config, tmp_path / "out")
    found = outcome(search, tmp_path / "out", config.fingerprint)
    assert found.value == row["best.macro_recall"] and found.val_images is None
    for objective, what in (
        (maximize("recall"), "no epoch has the metric 'recall'"),
        (maximize("confidence", "final"), "would choose by them"),
        ("worst", "unknown objective"),
    ):
        with pytest.raises(InputError, match=what):
            Search(config, {"optimizer.lr": log_uniform(1e-3, 0.1)}, objective=objective)


def test_a_sweep_by_an_own_metric_holds_the_same_trials(own: Path) -> None:
    plain, judged = (
        expand(Sweep(all_own(own), objective=objective))
        for objective in (None, maximize("macro_recall"))
    )
    assert [one.fingerprint for one in plain] == [one.fingerprint for one in judged]
    assert judged[0].task.metric == "macro_recall" and plain[0].task.metric == "val_accuracy"
    with pytest.raises(InputError, match="no epoch has the metric"):
        Sweep(all_own(own), objective=maximize("recall"))


# --- launched ----------------------------------------------------------------------------------


def program(module: str, *words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)


def test_from_another_working_directory_in_a_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Launched, searched, reported; the record knows the file by its content."""
    monkeypatch.setenv("SWEEPS_SNAPSHOT_MB", "100")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    theirs, elsewhere, results = (tmp_path / one for one in ("theirs", "elsewhere", "results"))
    elsewhere.mkdir()
    own, _ = written(theirs), written(theirs, "SCALE = 1.0\n", "beside.py")
    own.write_text("from beside import SCALE\n" + CODE)
    mine = written(theirs, DEFINITION, "mine.py")
    at = ("--results", results)
    done = program("sweeps.launch", mine, *at, "--on", "local", cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    (run,) = (pq.read_table(one).to_pylist()[0] for one in matching(results, f"mine/*/{RUN}"))
    assert run["model.name"] == f"{own}:Net" and run["loss"] == f"{own}:loss"
    assert run["snapshot_sha256"] and run["final.macro_recall"] > 0
    assert run["code_sha256"] == origin.hash_of(ROOT / "trainer", own)

    by_recall = 'Sweep(base, objective=maximize("macro_recall"))'
    judged = written(theirs, DEFINITION.replace("Sweep(base)", by_recall), "judged.py")
    done = program("sweeps.launch", judged, *at, "--on", "local", cwd=elsewhere)
    assert "1 of them are taken from other sweeps" in done.stderr  # it is the same trial
    said = program("sweeps.status", "judged", *at, cwd=elsewhere)
    assert f"best macro_recall {run['best.macro_recall']:.4g}" in said.stdout + said.stderr

    own.write_text(own.read_text() + "# another hash\n")
    said = program("sweeps.status", "mine", *at, cwd=elsewhere)
    assert "1 done trial was trained by other code" in said.stdout + said.stderr
    report = program("analysis.report", *at, cwd=elsewhere)
    assert report.returncode == 0, report.stderr
    page = (results / "report" / "report.md").read_text().replace("\\", "")
    assert f"last convolutional map (features of {own}:Net)" in page
    assert "Compared by macro_recall" in page and page.endswith("Every file was read.\n")
    (plan,) = load_study(results, ["mine"]).plans
    logged = rows.of(plan)
    (shown,) = (one for one in columns(plan, logged) if one.name == "last macro_recall")
    assert shown.values.tolist() == [run["last.macro_recall"]]
    assert logged.values("confidence").tolist() == [run["last.confidence"]]


def test_a_launch_refuses_what_does_not_work(
    forked: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    written(tmp_path, CODE.replace("return F.cross_entropy(logits, targets)", "return 1.0"))
    mine = written(tmp_path, DEFINITION, "mine.py")
    for more in ((), ("--dry-run",)):
        done = program(
            "sweeps.launch", mine, "--results", tmp_path / "r", "--on", "local", *more, cwd=tmp_path
        )
        assert done.returncode == 2
        assert "own.py:loss returned a float, not a scalar" in done.stderr
        assert "losses.mean()" in done.stderr
    assert not (tmp_path / "r").exists()
