"""run.predict: what it stores, whatever holds it, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from test_run import FINGERPRINT, begun, in_ranks

from local_machine.errors import InputError
from sweeps.run.handle import Run
from trial_records import rows, tables
from trial_records.columns import CLASSES_SCHEMA, LOGITS_SCHEMA, VALUES_SCHEMA
from trial_records.trial_files import PREDICTIONS

LOGITS = [[0.5, -1.25], [2.0, 3.0]]


@pytest.fixture
def trial(tmp_path: Path) -> Path:
    return tmp_path / "trial"


def finished(trial: Path, **given: Any) -> tuple[list[dict[str, Any]], Any]:
    """The rows that are stored, and the classes."""
    run = begun(trial)
    run.predict(**given)
    row = run.finish({})
    table = tables.read_predictions(trial)
    assert row["predictions_sha256"]
    assert table.schema in (LOGITS_SCHEMA, CLASSES_SCHEMA, VALUES_SCHEMA)
    stored = tables.read_table(trial / PREDICTIONS)
    assert set(stored["task"].to_pylist()) == {"plain"}
    return table.to_pylist(), tables.read_run(trial, FINGERPRINT).get("classes")


@pytest.mark.parametrize(
    "logits",
    [
        LOGITS,
        np.array(LOGITS, np.float64),
        torch.tensor(LOGITS, requires_grad=True),
        torch.tensor(LOGITS, dtype=torch.bfloat16),
        [torch.tensor(row) for row in LOGITS],
        pd.DataFrame(LOGITS),
    ],
    ids=["list", "array", "tensor with a gradient", "bfloat16", "list of tensors", "frame"],
)
def test_logits_in_whatever_holds_them(trial: Path, logits: Any) -> None:
    found, classes = finished(trial, labels=[1, 0], logits=logits, classes=("a, b", "c"))
    assert found == [
        {"index": 0, "label": 1, "logits": LOGITS[0]},
        {"index": 1, "label": 0, "logits": LOGITS[1]},
    ]
    assert classes == '"a, b",c'


@pytest.mark.parametrize(
    ("labels", "predicted", "classes", "named"),
    [
        ([1, 0, 2], torch.tensor([1, 1, 2]), None, "0,1,2"),
        (np.array([[1], [0], [2]]), [1.0, 1.0, 2.0], ["x", "y", "z", "w"], "x,y,z,w"),
        (["b", "a", "c"], np.array(["b", "b", "c"]), None, "a,b,c"),
        (pd.Series(["b", "a", "c"]), [1, 1, 2], ("a", "b", "c"), "a,b,c"),
    ],
)
def test_classes_as_numbers_and_as_names(
    trial: Path, labels: Any, predicted: Any, classes: Any, named: str
) -> None:
    found, stored = finished(trial, labels=labels, predicted=predicted, classes=classes)
    assert [(row["label"], row["predicted"]) for row in found] == [(1, 1), (0, 1), (2, 2)]
    assert stored == named


def test_values(trial: Path) -> None:
    found, classes = finished(trial, targets=[1, 2], values=torch.tensor([[1.5], [-2.0]]))
    assert found == [
        {"index": 0, "target": 1.0, "value": 1.5},
        {"index": 1, "target": 2.0, "value": -2.0},
    ]
    assert classes is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "was given nothing"),
        ({"labels": [0]}, "was given labels"),
        ({"labels": [0], "predicted": [0], "logits": [[0, 1]]}, "labels, logits, predicted"),
        ({"labels": [0], "values": [0.0]}, "labels, values"),
        ({"targets": [0], "values": [0], "classes": ["a"]}, "targets, values, classes"),
        ({"labels": [0, 1], "predicted": [0]}, "2 labels and 1 predicted"),
        ({"labels": [], "predicted": []}, "0 examples"),
        ({"labels": [0, -100], "predicted": [0, 0]}, r"labels\[1\] is -100"),
        ({"labels": [0, 2], "logits": LOGITS}, r"labels\[1\] is 2"),
        ({"labels": [0, 1], "predicted": [0, 3], "classes": "ab"}, "classes is 'ab'"),
        ({"labels": [0, 1], "predicted": [0, 3], "classes": ["a", "b"]}, r"predicted\[1\] is 3"),
        ({"labels": [0.5], "predicted": [0]}, r"labels\[0\] is 0.5"),
        ({"labels": [None], "predicted": [0]}, "labels are of type object"),
        ({"labels": ["cat"], "predicted": ["dgo"], "classes": ["cat", "dog"]}, r"\[0\] is 'dgo'"),
        ({"labels": ["cat"], "predicted": [0]}, "and the other numbers"),
        ({"labels": ["cat", "dog"], "logits": LOGITS}, "which logit is of which"),
        ({"labels": [0, 1], "logits": LOGITS, "classes": ["a"]}, "2 classes, and 1 names"),
        ({"labels": [0, 1], "logits": LOGITS, "classes": ["a", "a"]}, "are called 'a'"),
        ({"labels": [0, 1], "logits": LOGITS, "classes": ["a", "b\n"]}, "cannot be shown"),
        ({"labels": [0, 1], "logits": LOGITS, "classes": 2}, "classes is 2"),
        ({"labels": [0, 1], "logits": [[0, 1], [0, np.nan]]}, r"logits\[1, 1\] is nan"),
        ({"labels": [0, 1], "logits": [[0, 1], [0, 1e39]]}, r"logits\[1, 1\] is 1e\+39"),
        ({"labels": [0, 1], "logits": [0.5, 0.5]}, r"shape \(2,\)"),
        ({"labels": [0, 1], "logits": [[0, 1], [0]]}, "cannot be made one array"),
        ({"targets": [0.0, np.inf], "values": [0, 0]}, r"targets\[1\] is inf"),
        ({"targets": [0.0, 0.0], "values": [0, 1e101]}, r"values\[1\] is 1e\+101"),
        ({"targets": [[0, 1]], "values": [0]}, r"shape \(1, 2\)"),
        ({"targets": ["a"], "values": [0]}, "targets are of type"),
        ({"labels": [0], "predicted": [2**15]}, r"predicted\[0\] is 32768"),
        (
            dict.fromkeys(("labels", "predicted"), np.zeros(10_000_001, np.int8)),
            "10,000,001 examples",
        ),
        (
            {"labels": np.zeros(100_000, int), "logits": np.zeros((100_000, 1001), np.int8)},
            "100,100,000 logits",
        ),
    ],
)
def test_what_is_refused_and_where(trial: Path, given: dict[str, Any], said: str) -> None:
    run = begun(trial)
    with pytest.raises(InputError, match=said) as caught:
        run.predict(**given)
    assert caught.value.what.startswith("run.predict") and caught.value.help
    assert run.finish({})["predictions_sha256"] is None


def test_the_last_call_counts(trial: Path) -> None:
    run = begun(trial)
    run.predict(labels=[0], predicted=[1])
    run.predict(targets=[1.0], values=[2.0])
    row = run.finish({})
    assert "classes" not in row
    assert tables.read_predictions(trial).column_names == ["index", "target", "value"]


def test_an_attempt_publishes_its_own_predictions_and_no_other_ones(trial: Path) -> None:
    """One that predicted, and was killed before it returned."""
    run = begun(trial)
    run.save(1)
    run.predict(targets=[1.0], values=[2.0])
    run.end()
    again = begun(trial)
    assert again.load() == 1
    (files,) = rows.attempt_files(trial)
    assert (files / PREDICTIONS).exists()
    assert again.finish({})["predictions_sha256"] is None
    assert not (trial / PREDICTIONS).exists()


def test_an_attempt_that_goes_on_predicts_again(trial: Path) -> None:
    run = begun(trial)
    run.save(1)
    run.predict(targets=[1.0], values=[2.0])
    run.end()
    again = begun(trial)
    again.load()
    again.predict(targets=[1.0], values=[3.0])
    again.finish({})
    assert tables.read_predictions(trial)["value"].to_pylist() == [3.0]


def test_of_several_ranks_the_first_ones_count(tmp_path: Path) -> None:
    def act(run: Run, rank: int) -> Any:
        run.load()
        run.predict(targets=[1.0], values=[float(rank)] if rank == 0 else "nothing")
        run.save(1)
        return run.finish({})["status"] if rank == 0 else "done"

    assert in_ranks(tmp_path, act) == ["'done'", "'done'"]
    assert tables.read_predictions(tmp_path / "trial")["value"].to_pylist() == [0.0]
