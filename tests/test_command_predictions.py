"""Programs that leave a file of predictions in their folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_kill import ROOT
from test_run import FINGERPRINT, begun

from local_machine.errors import InputError
from sweeps import Sweep, minimize
from sweeps.command_task import predicted_file
from trial_records import tables
from trial_records.trial_files import FAILURE, RUN

PROGRAM = """
import json, sys
case, out = sys.argv[1:]
open(f"{out}/metrics.jsonl", "w").write(json.dumps({"epoch": 0, "loss": 0.5}) + "\\n")
texts = {
    "good": "id,label,predicted\\n7,cat,cat\\n8,dog,cat\\n",
    "bad": "target,value\\n1,1\\n2,inf\\n",
}
if case in texts:
    open(f"{out}/predictions.csv", "w").write(texts[case])
"""
DEFINITION = """
from sweeps import Sweep, grid, minimize
sweep = Sweep(command="{python} {program} {{case}} {{folder}}", base={{"case": "good"}},
              space=grid({{"case": ["good", "bad", "none"]}}), metrics="metrics.jsonl",
              predictions="predictions.csv", objective=minimize("loss"))
"""


@pytest.mark.long
def test_a_program_is_done_once_its_predictions_are_stored(tmp_path: Path) -> None:
    program, definition = tmp_path / "program.py", tmp_path / "mine.py"
    program.write_text(PROGRAM)
    definition.write_text(DEFINITION.format(python=sys.executable, program=program))
    words = [str(definition), "--results", str(tmp_path / "results"), "--on", "local"]
    subprocess.run([sys.executable, "-m", "sweeps.launch", *words], cwd=ROOT, capture_output=True)
    good, bad, none = (
        next((tmp_path / "results" / "mine").glob(f"case{case}-*"))
        for case in ("good", "bad", "none")
    )
    assert tables.read_predictions(good).to_pylist() == [
        {"index": 0, "label": 0, "predicted": 0},
        {"index": 1, "label": 1, "predicted": 0},
    ]
    run = tables.read_table(good / RUN).to_pylist()[0]
    assert run["predictions_sha256"] and run["classes"] == "cat,dog"
    for folder, said in ((bad, "predictions.csv: values[1] is inf"), (none, "left no predictions")):
        assert not (folder / RUN).exists()
        assert said in json.loads((folder / FAILURE).read_text())["exception"]


def write(path: Path) -> Path:
    """What each case's file holds."""
    texts = {
        "shuffled.csv": "logit_1,logit_0,label\n0.5,-1,0\n2,3,1\n",
        "named.csv": "label,logit_cat,logit_dog\ncat,-1,0.5\ndog,3,2\n",
    }
    scores = [[-1.0, 0.5], [3.0, 2.0]]
    if path.name in texts:
        path.write_text(texts[path.name])
    elif path.name == "plain.parquet":
        columns = {"label": [0, 1], "logit_0": [-1.0, 3.0], "logit_1": [0.5, 2.0]}
        pq.write_table(pa.table(columns), path)
    else:
        np.savez(path, label=[0, 1], logits=scores, classes=["cat", "dog"])
    return path


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("shuffled.csv", "0,1"),
        ("named.csv", "cat,dog"),
        ("plain.parquet", "0,1"),
        ("arrays.npz", "cat,dog"),
    ],
)
def test_logits_of_each_kind_of_file(tmp_path: Path, name: str, classes: str) -> None:
    run = begun(tmp_path / "trial")
    predicted_file.tell(run, write(tmp_path / name))
    run.finish({})
    assert tables.read_predictions(tmp_path / "trial").to_pylist() == [
        {"index": 0, "label": 0, "logits": [-1.0, 0.5]},
        {"index": 1, "label": 1, "logits": [3.0, 2.0]},
    ]
    assert tables.read_run(tmp_path / "trial", FINGERPRINT)["classes"] == classes


def test_numbers_of_a_parquet_file(tmp_path: Path) -> None:
    pq.write_table(pa.table({"target": [1, 2], "value": [1.5, 2.0]}), tmp_path / "p.parquet")
    run = begun(tmp_path / "trial")
    predicted_file.tell(run, tmp_path / "p.parquet")
    run.finish({})
    assert tables.read_predictions(tmp_path / "trial")["value"].to_pylist() == [1.5, 2.0]


@pytest.mark.parametrize("name", ["p.csv", "p.parquet", "p.npz", "folder.csv"])
def test_what_is_no_such_file_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "folder.csv":
        path.mkdir()
    else:
        path.write_bytes(b"\x00\xff")
    with pytest.raises(InputError) as caught:
        predicted_file.tell(begun(tmp_path / "trial"), path)
    assert str(path) in caught.value.what and "run.predict" not in caught.value.what


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    np.savez(path, label=np.array([object()], dtype=object), predicted=[0])
    with pytest.raises(InputError, match="cannot be read"):
        predicted_file.tell(begun(tmp_path / "trial"), path)


@pytest.mark.parametrize("name", ["", "../p.csv", "/p.csv", "p.pkl", 3])
def test_a_file_that_cannot_be_is_refused_at_launch(name: object) -> None:
    with pytest.raises(InputError, match="predictions is"):
        Sweep(
            command="python x.py {lr}", base={"lr": 0.1}, metrics="m.csv", predictions=name,  # type: ignore[arg-type]
            objective=minimize("loss"),
        )  # fmt: skip
