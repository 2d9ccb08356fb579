"""The examples of docs/extending.md, as they stand there, on a few digits."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import sweeps.launch
import sweeps.search.__main__
from local_machine.errors import run_command
from local_machine.files import matching
from trial_records.trial_files import RUN

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
SMALL = [
    "data.name=digits", "data.train_limit=200", "data.test_limit=100", "epochs=1", "batch_size=50",
]  # fmt: skip


def examples(title: str) -> dict[str, str]:
    """The files of a section by their names, which are their first lines."""
    section = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    assert section is not None, title
    return dict(re.findall(r"^```python\n# (\S+\.py)\n(.*?)^```$", section[1], re.M | re.S))


@pytest.mark.parametrize(
    ("title", "own", "trials"),
    [
        ("Your own network", "network.py:wide", 3),
        ("Your own loss", "focal.py:focal", 2),
        ("Your own optimizer", "nadam.py:nadam", 3),
        ("Your own metrics", "f1.py:macro_f1", 1),
    ],
)
def test_each_example_runs_as_it_stands(
    title: str, own: str, trials: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = examples(title)
    assert files
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    names = "|".join(map(re.escape, files))
    (command,) = re.findall(rf"^    python -m (sweeps\.\w+ (?:{names}))$", PAGE, re.M)
    module, definition = command.split()
    is_search = module == "sweeps.search"
    app = sweeps.search.__main__.app if is_search else sweeps.launch.app
    narrow = [] if "network" in own else ["model.width=0.125"]
    words = [word for one in (*SMALL, *narrow) for word in ("--set", one)]
    words += ["--trials", "1", "--on", "local"] if is_search else ["--on", "debug"]
    with pytest.raises(SystemExit) as end:
        run_command(app, [definition, "--results", str(tmp_path / "results"), *words])
    assert not end.value.code
    runs = [
        pq.read_table(one, partitioning=None).to_pylist()[0]
        for one in matching(tmp_path / "results", f"*/*/{RUN}")
    ]
    assert len(runs) == trials
    named = [str(value) for run in runs for value in run.values()]
    assert str(tmp_path / own) in named
