"""What each tool's own library reads of an export: trials, with configuration, metrics, results."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Steps = list[tuple[int, float]]


@dataclass
class Found:
    """Of one trial, every value as a float where it is a number."""

    config: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Steps] = field(default_factory=lambda: defaultdict(list))
    results: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, step: int, value: float) -> None:
        if name.startswith("result/"):
            assert name not in self.results, f"{name} twice"
            self.results[name.removeprefix("result/")] = value
        else:
            self.metrics[name].append((step, value))


def value(word: Any) -> Any:
    try:
        return float(word)
    except (TypeError, ValueError):
        return word


def from_tensorboard(dest: Path, sweep: str) -> dict[str, Found]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    found = {}
    for folder in sorted((dest / sweep).iterdir()):
        events = EventAccumulator(str(folder), {"scalars": 0, "tensors": 0})
        events.Reload()
        one = found[folder.name] = Found()
        for tag in events.Tags()["scalars"]:
            for event in events.Scalars(tag):
                one.add(tag, event.step, event.value)
        raw = events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
        hparams = HParamsPluginData.FromString(raw).session_start_info.hparams
        one.config = {
            key: value(getattr(each, each.WhichOneof("kind"))) for key, each in hparams.items()
        }
    return found


def from_wandb(dest: Path, sweep: str) -> dict[str, Found]:
    """By `wandb leet inspect`, which decodes an offline run's records."""
    found = {}
    for path in sorted(dest.glob("wandb/offline-run-*/*.wandb")):
        words = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(path)]
        said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        one = Found()
        name = project = ""
        for record in map(json.loads, said.splitlines()):
            run = record.get("run", {})
            name, project = run.get("display_name", name), run.get("project", project)
            config = run.get("config", {}).get("update", {})
            one.config |= {key: value(each) for key, each in config.items()}
            logged = record.get("history", {}).get("item", {})
            for key, each in logged.items():
                if not key.startswith("_"):
                    one.add(key, logged["_step"], value(each))
        one.config.pop("_wandb", None)
        assert one.config.pop("sweeps")["trial"] == name
        if project == sweep:
            assert name not in found, f"{name} twice"
            found[name] = one
    return found


def from_mlflow(dest: Path, sweep: str) -> dict[str, Found]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{dest}/mlflow.db")
    experiment = client.get_experiment_by_name(sweep)
    assert experiment is not None
    found = {}
    for run in client.search_runs([experiment.experiment_id]):
        assert run.data.tags["sweeps.trial"] == run.info.run_name
        assert run.info.run_name not in found, f"{run.info.run_name} twice"
        one = found[run.info.run_name] = Found()
        one.config = {key: value(each) for key, each in run.data.params.items()}
        for key in run.data.metrics:
            history = client.get_metric_history(run.info.run_id, key)
            for metric in sorted(history, key=lambda metric: metric.step):
                one.add(key, metric.step, metric.value)
    return found


def from_trackio(dest: Path, sweep: str) -> dict[str, Found]:
    """In a process of its own, since Trackio reads its folder once."""
    code = (
        "import json, sys, trackio\n"
        "from trackio.sqlite_storage import SQLiteStorage\n"
        "runs = [(run.name, run.config, SQLiteStorage.get_logs(sys.argv[1], run.name))\n"
        "        for run in trackio.Api().runs(sys.argv[1])]\n"
        "print(json.dumps(runs))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, sweep],
        env={"TRACKIO_DIR": str(dest), "HF_HUB_OFFLINE": "1", "PATH": ""},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    found = {}
    for name, config, logs in json.loads(said):
        assert name not in found, f"{name} twice"
        one = found[name] = Found()
        own = {key: each for key, each in config.items() if key[0] != "_"}
        one.config = {key: value(each) for key, each in own.items() if key[:7] != "sweeps."}
        for row in logs:
            for key in row.keys() - {"step", "timestamp"}:
                one.add(key, row["step"], value(row[key]))
    return found


def from_csv(dest: Path, sweep: str) -> dict[str, Found]:
    """By pandas, as a person would; rows stand in their order."""
    import pandas as pd

    trials = pd.read_csv(dest / "trials.csv")
    metrics = pd.read_csv(dest / "metrics.csv")
    found = {}
    for _, row in trials[trials["sweep"] == sweep].iterrows():
        one = found[str(row["trial"])] = Found()
        for key, each in row.dropna().items():
            if str(key).startswith("config."):
                one.config[str(key).removeprefix("config.")] = value(each)
            elif str(key).startswith("result/"):
                one.results[str(key).removeprefix("result/")] = value(each)
    own = metrics[metrics["sweep"] == sweep]
    for name, rows in own.groupby("trial", sort=False):
        for key in rows.columns.drop(["sweep", "trial"]):
            for place, each in zip(rows["step"], rows[key], strict=True):
                if isinstance(value(each), float):
                    found[str(name)].metrics[str(key)].append((int(place), value(each)))
    return found


READERS = {
    "tensorboard": from_tensorboard,
    "wandb": from_wandb,
    "mlflow": from_mlflow,
    "trackio": from_trackio,
    "csv": from_csv,
}


def cells(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))
