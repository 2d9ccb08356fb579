"""Several ranks compute what one does, and what the command line answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import forking
from hypothesis import given
from hypothesis import strategies as st
from ranks import HARD, MUON, UNEVEN, VIT, WRN
from saved_trials import state_of

from local_machine.errors import EXIT_FLAGGED, EXIT_IO, EXIT_USAGE, InputError
from trainer.alone import train_alone as train
from trainer.augment.batch import Augmenter, draw
from trainer.config import AugmentConfig, TrainConfig
from trainer.distributed import Group, join
from trainer.records.history import Row
from trial_records import trial_files
from trial_records.tables import read_epochs, read_predictions, read_table

REPOSITORY = Path(__file__).parents[1]
RANKS = Path(__file__).with_name("ranks.py")
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
CPU = torch.device("cpu")


def environment(**more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    return clean | {"PYTHONPATH": str(REPOSITORY)} | more


def run(*words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *map(str, words)]
    with subprocess.Popen(
        command, env=environment(**variables), cwd=REPOSITORY, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            out, err = process.communicate(timeout=100)
        except BaseException:
            # Not killed: torchrun ends its ranks when it is asked to end.
            process.terminate()
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def weights(config: TrainConfig, out: Path) -> dict[str, bytes]:
    state = state_of(out, config.fingerprint)
    assert state is not None
    return {name: value.numpy().tobytes() for name, value in state["best_weights"].items()}


def epochs(out: Path) -> list[Row]:
    rows = read_epochs(out).to_pylist()
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")}
            for row in rows]  # fmt: skip


@pytest.mark.long
def test_two_ranks(tmp_path: Path) -> None:
    """All that one start of torchrun can show: it costs seconds."""
    ranks = tmp_path / "ranks"
    ranks.mkdir()
    done = run(
        "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", RANKS, ranks
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = (json.loads((ranks / f"rank-{n}.json").read_text()) for n in range(2))

    # The command: its outcome once, from rank 0; on stderr an epoch a line.
    row = read_table(ranks / "vit" / trial_files.RUN).to_pylist()[0]
    assert done.stdout == (
        f"validation {row['val_accuracy']:.4f}, test {row['test_accuracy']:.4f}: {ranks / 'vit'}\n"
    )
    for epoch in range(1, 4):
        assert done.stderr.count(f"epoch {epoch}/3  lr 0.0") == 1
    assert "Warning" not in done.stderr

    # The same images, augmented the same, and the same learning as on one rank; with UNEVEN a
    # rank has none of the last batch's images.
    for name, config in (("vit", VIT), ("uneven", UNEVEN), ("muon", MUON)):
        train(config, tmp_path / name)
        close(epochs(ranks / name), epochs(tmp_path / name))

    # Every rank returns the same outcome.
    for name in ("wrn", "resumed", "uneven", "again", "muon", "hard", "hard-uneven", "own"):
        mine = {
            "seconds", "images_per_second", "flops_per_second", "peak_flops_per_second",
            "peak_memory_bytes", "finished_at", "command", "attempts",
        }  # fmt: skip
        for key in first[name].keys() - (mine if name != "again" else set()):
            assert first[name][key] == second[name][key], key
        assert first[name]["world_size"] == 2
    assert first["again"] == read_table(ranks / "uneven" / trial_files.RUN).to_pylist()[0]

    assert first["own"]["last.macro_recall"] > 0

    # Resume is exact.
    assert epochs(ranks / "resumed") == epochs(ranks / "wrn")
    assert weights(WRN, ranks / "resumed") == weights(WRN, ranks / "wrn")
    assert epochs(ranks / "hard-resumed") == epochs(ranks / "hard")
    assert weights(HARD, ranks / "hard-resumed") == weights(HARD, ranks / "hard")
    predictions = [read_predictions(ranks / name) for name in ("wrn", "resumed")]
    assert predictions[0].equals(predictions[1])

    # Bad input: the same words on every rank, and nobody waits for the others.
    for name, code in (("other", EXIT_IO), ("file", EXIT_USAGE)):
        assert first[name] == second[name]
        assert first[name][0] == "InputError" and first[name][2] == code
    assert "holds another trial" in first["other"][1]
    kind, what, code = second["unshared"]
    assert (kind, code) == ("InputError", EXIT_IO) and "rank 1 does not see" in what
    assert first["unshared"][0] != "nothing"


def close(one: list[Row], other: list[Row]) -> None:
    assert len(one) == len(other)
    for row, again in zip(one, other, strict=True):
        for name in ("train_loss", "val_loss", "val_loss_smoothed"):
            assert row[name] == pytest.approx(again[name], rel=1e-4), name
        for name in ("epoch", "lr", "val_accuracy", "train_accuracy"):
            assert row[name] == again[name], name


@given(st.integers(0, 300), st.integers(1, 20))
def test_shards_are_the_batch(images: int, world: int) -> None:
    batch = torch.randperm(images, generator=torch.Generator().manual_seed(images))
    shards = [Group(rank, world, CPU).shard(batch) for rank in range(world)]
    assert torch.equal(torch.cat(shards), batch)
    sizes = [len(shard) for shard in shards]
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 3))
def test_shards_are_augmented_as_the_batch_is(images: int, world: int, epoch: int) -> None:
    config = AugmentConfig(mixup=0.4)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), np.uint8)
    augmenter = Augmenter(
        pixels, np.zeros(40, np.int64), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), config, CPU
    )  # fmt: skip
    draws = draw(config, 40, 8, 42, epoch, CPU)
    batch = draws.order[:images]
    shards = [Group(rank, world, CPU).shard(batch) for rank in range(world)]
    parts = [augmenter.batch(draws, shard) for shard in shards if len(shard)]
    assert torch.equal(torch.cat(parts), augmenter.batch(draws, batch))


def test_alone_everything_is_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for world in (None, "1"):
        if world:
            monkeypatch.setenv("WORLD_SIZE", world)
        with join() as group:
            assert (group.rank, group.world, group.is_main) == (0, 1, True)
            tensor = torch.arange(3)
            assert group.sum(tensor) is tensor and tensor.tolist() == [0, 1, 2]
            assert torch.equal(group.shard(tensor), tensor)
            assert group.broadcast("x") == group.from_main(lambda: "x") == "x"
        assert not torch.distributed.is_initialized()


WHOLE = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"RANK": None}, "RANK='' is not a number"),
        ({"RANK": "one"}, "RANK='one' is not a number"),
        ({"RANK": "-1"}, "RANK='-1' is not a number"),
        ({"RANK": "2"}, "RANK=2 is not below WORLD_SIZE=2"),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE='' is not a number"),
        ({"WORLD_SIZE": "²"}, "WORLD_SIZE='²' is not a number"),
        ({"WORLD_SIZE": "0"}, "RANK=0 is not below WORLD_SIZE=0"),
        ({"MASTER_ADDR": None}, "MASTER_ADDR is not"),
        ({"MASTER_PORT": None}, "MASTER_PORT='' is not a number"),
    ],
)  # fmt: skip
def test_an_incomplete_environment_is_refused(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, str | None], what: str
) -> None:
    for name, value in (dict.fromkeys(VARIABLES) | WHOLE | change).items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    with pytest.raises(InputError) as caught, join():
        pytest.fail("joined")
    assert what in caught.value.what and caught.value.exit_code == EXIT_USAGE
    assert "torchrun" in caught.value.help
    assert not torch.distributed.is_initialized()


def test_others_that_do_not_come_are_waited_for_in_bounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trainer.distributed.RENDEZVOUS_SECONDS", 1)
    for name, value in (WHOLE | {"MASTER_PORT": "1", "LOCAL_RANK": "1"}).items():
        monkeypatch.setenv(name, value)
    started = time.monotonic()
    with pytest.raises(InputError) as caught, join():
        pytest.fail("joined")
    assert time.monotonic() - started < 30
    assert "rank 1 of 2 could not meet the others at 127.0.0.1:1" in caught.value.what
    assert caught.value.exit_code == EXIT_IO


def told(done: subprocess.CompletedProcess[str], code: int) -> tuple[str, str]:
    """The two lines of an error, and nothing else said."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    error, advice, *more = done.stderr.splitlines()
    assert error.startswith("error: ") and advice.startswith("help: ") and not more, done.stderr
    return error, advice


def test_bad_input_on_the_command_line(tmp_path: Path) -> None:
    bad, good = tmp_path / "bad.json", tmp_path / "good.json"
    bad.write_text('{"optimizer": {"weight_decy": 1}}')
    good.write_text(VIT.override({"optimizer.lr": 1e30}).to_json())
    out = tmp_path / "out"
    with forking():
        _every_bad_input(bad, good, tmp_path / "missing.json", out)


def _every_bad_input(bad: Path, good: Path, missing: Path, out: Path) -> None:
    error, advice = told(run("-m", "trainer", bad, out), EXIT_USAGE)
    assert f"{bad}: unknown field 'optimizer.weight_decy'" in error
    assert "'optimizer.weight_decay'" in advice
    error, _ = told(run("-m", "trainer", missing, out), EXIT_USAGE)
    assert "cannot read" in error
    error, _ = told(run("-m", "trainer", bad), EXIT_USAGE)
    assert "out" in error
    assert not out.exists()
    error, _ = told(run("-m", "trainer", good, out, WORLD_SIZE="2"), EXIT_USAGE)
    assert "RANK='' is not a number" in error
    assert not out.exists()
    error, advice = told(run("-m", "trainer", good, out), EXIT_FLAGGED)
    assert "epoch 0 is not finite" in error and "optimizer.lr" in advice
    with_debug = run("-m", "trainer", bad, out, "--debug")
    assert "Traceback" in with_debug.stderr and with_debug.returncode != 0


@pytest.mark.long
def test_interrupted_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "long.json"
    path.write_text(VIT.override({"epochs": 100_000}).to_json())
    with subprocess.Popen(
        [sys.executable, "-m", "trainer", path, tmp_path / "out"],
        env=environment(), cwd=REPOSITORY, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        assert process.stderr.readline().startswith("epoch 1/100000")
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "Traceback" not in rest and "error:" not in rest
    assert not [path for path in (tmp_path / "out").iterdir() if path.suffix == ".part"]
