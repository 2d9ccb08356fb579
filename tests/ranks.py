"""Run under torchrun, this trains at the ranks that it is given and leaves in the folder given what
each of them saw."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from own_code import CODE, all_own, written

from local_machine.errors import InputError, run_command
from trainer.__main__ import app
from trainer.alone import train_alone as train
from trainer.config import TrainConfig
from trainer.records.history import Row

# LayerNorm and no dropout: nothing in it depends on how a batch is dealt. Batches of 179 of the
# 180 images leave one for the last, so that a rank of two has none.
VIT = TrainConfig().override(
    {
        "data.name": "digits", "data.train_limit": 200, "data.test_limit": 100,
        "epochs": 3, "batch_size": 33, "precision": "fp32", "augment.mixup": 0.2,
        "model.name": "vit", "model.width": 0.125, "model.patch": 8, "optimizer.lr": 0.01,
    }
)  # fmt: skip
UNEVEN = VIT.override({"batch_size": 179, "epochs": 2})
# BatchNorm, whose statistics are averaged, and dropout, with a stream for each rank.
WRN = VIT.override({"model.name": "wrn_10_1", "model.width": 0.5, "model.dropout": 0.3})
MUON = VIT.override({"optimizer.name": "muon", "epochs": 2})
# Each rank chooses of its own images, and has two of the last batch's, or none of 179's.
HARD = WRN.override({"augment.first_size": 16, "hard_fraction": 0.5, "batch_size": 30})
UNEVEN_HARD = HARD.override({"batch_size": 179, "epochs": 1})


def said(act: Callable[[], object]) -> list[Any]:
    try:
        act()
    except InputError as error:
        return ["InputError", error.what, error.exit_code]
    except Exception as error:
        return [type(error).__name__, str(error), None]
    return ["nothing", "", None]


def rank_main(folder: Path) -> None:
    rank = int(os.environ["RANK"])
    seen: dict[str, Any] = {}

    def copy_after_first(row: Row) -> None:
        if row["epoch"] == 0:
            shutil.copytree(folder / "wrn", folder / "resumed")
            shutil.copytree(folder / "wrn", folder / "unshared-0")

    def copy_hard(row: Row) -> None:
        if row["epoch"] == 0:
            shutil.copytree(folder / "hard", folder / "hard-resumed")

    (folder / "vit.json").write_text(VIT.to_json())
    with contextlib.suppress(SystemExit):
        run_command(app, [str(folder / "vit.json"), str(folder / "vit")])
    # Several trials one after another in one process, as a worker runs them.
    seen["wrn"] = train(WRN, folder / "wrn", copy_after_first)
    seen["resumed"] = train(WRN, folder / "resumed")
    seen["uneven"] = train(UNEVEN, folder / "uneven")
    seen["again"] = train(UNEVEN, folder / "uneven")
    seen["muon"] = train(MUON, folder / "muon")
    seen["hard"] = train(HARD, folder / "hard", copy_hard)
    seen["hard-resumed"] = train(HARD, folder / "hard-resumed")
    seen["hard-uneven"] = train(UNEVEN_HARD, folder / "hard-uneven")
    # Each rank writes the same.
    own = all_own(written(folder / f"of-{rank}", CODE).replace(folder / "own.py"))
    seen["own"] = train(own, folder / "own")
    seen["other"] = said(lambda: train(VIT, folder / "uneven"))
    seen["file"] = said(lambda: train(VIT, Path(__file__)))
    # A checkpoint that only rank 0 sees, as on a disk that is not shared.
    own = folder / f"unshared-{rank}"
    seen["unshared"] = said(lambda: train(WRN, own))
    (folder / f"rank-{rank}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    rank_main(Path(sys.argv[1]))
