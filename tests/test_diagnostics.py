"""What the report says of one point of a sweep: its seeds, and one run's predictions."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from predicted_results import launch, parts_of, predict, seeded, small, table, text
from results_folder import HOSTILE, begin, fail, finish, name_of, write_plan

from analysis.data.predictions import Predictions
from analysis.figures import diagnostics as figures
from analysis.figures.style import STYLE, png
from analysis.output.model import Section
from analysis.output.page import Page
from analysis.stats import classification
from trainer.recipes import reported as protocol
from trial_records.tables import EPOCHS_SCHEMA, write_table
from trial_records.trial_files import EPOCHS, PREDICTIONS

pytestmark = pytest.mark.usefixtures("no_images")


# --- the section -------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(
    ("validations", "seed", "said"),
    [
        ([0.7], 42, "the only one that has finished"),
        ([0.7, 0.6], 43, "the lower middle validation accuracy"),
        ([0.7, 0.9, 0.8], 44, "the median validation accuracy"),
        ([0.8, 0.8, 0.8], 43, "the median validation accuracy"),
        ([0.5, 0.9, 0.7, 0.6], 45, "the lower middle validation accuracy"),
    ],
)
def test_the_run_in_detail_is_the_median_one(
    tmp_path: Path, validations: list[float], seed: int, said: str
) -> None:
    results = tmp_path / "results"
    configs = seeded(len(validations))
    for config, folder, value in zip(configs, launch(results, configs), validations, strict=True):
        small(folder, config, value)
    parts, study = parts_of(results)
    (shown,) = [config for config in configs if config.seed == seed]
    assert f"one run, {name_of(shown)} (seed {seed})" in parts[0].notes[-1]
    assert said in parts[0].notes[-1]
    assert "The best one would flatter" in parts[0].notes[-1]
    assert parts[2].title.endswith(f": seed {seed}")
    assert not study.problems

    rows = table(parts, "-seeds")
    few = len(validations) < 3
    extra = [] if len(validations) == 1 else ["mean", "sd"] if few else ["mean", "sd", "seeds 95 %"]
    assert rows["seed"].tolist() == [str(config.seed) for config in configs] + extra
    assert rows["train"].tolist()[0] == "93.00"
    assert rows["train clean"].tolist()[0] == "94.00"
    assert rows["validation"].tolist()[0] == f"{100 * validations[0]:.2f}"
    assert rows["best epoch"].tolist()[0] == "3 of 100"
    assert ("no interval under three seeds" in text(parts)) is few


def test_the_interval_over_seeds_is_that_of_their_values(tmp_path: Path) -> None:
    results = tmp_path / "results"
    configs = seeded(3)
    values = [0.90, 0.91, 0.92]
    for config, folder, value in zip(configs, launch(results, configs), values, strict=True):
        finish(folder, config, test_accuracy=value, train_accuracy_clean=None)
    parts, _ = parts_of(results)
    rows = table(parts, "-seeds").set_index("seed")
    assert rows.loc["mean", "test, top-1"] == "91.00"
    assert rows.loc["sd", "test, top-1"] == "1.00"
    # t of two degrees of freedom, 4.3027, times 1 / sqrt(3).
    assert rows.loc["seeds 95 %", "test, top-1"] == "88.52 to 93.48"
    # Not measured: nothing is invented.
    assert set(rows["train clean"]) == {"-"}


def test_a_class_reported_nowhere_stands_beside_nothing(tmp_path: Path) -> None:
    for model, data in (("resnet18", "cifar10"), ("wrn_28_10", "digits")):
        results = tmp_path / model
        config = protocol(model).override({"data.name": data})
        (folder,) = launch(results, [config])
        small(folder, config, 0.9)
        parts, _ = parts_of(results)
        names = [one.name for part in parts for one in part.tables]
        assert not [name for name in names if name.endswith("reported")]
        assert "Reported" not in text(parts)
    # The study's model on its data, under other class names: top-k alone can stand beside.
    results = tmp_path / "renamed"
    (config,) = configs = seeded(1)
    (folder,) = launch(results, configs)
    small(folder, config, 0.9, classes=10)
    parts, _ = parts_of(results)
    assert table(parts, "00000001-reported")["figure"].tolist()[-1] == "top-5"
    assert not [one for part in parts for one in part.tables if "classes-reported" in one.name]
    assert "reported count" not in table(parts, "-confusions")


def test_runs_without_an_end_are_in_the_table_and_said(tmp_path: Path) -> None:
    results = tmp_path / "results"
    configs = seeded(3)
    folders = launch(results, configs)
    begin(folders[0])
    fail(folders[1], "NONFINITE")
    parts, _ = parts_of(results)
    assert len(parts) == 1
    assert "No run has finished yet" in parts[0].notes[-1]
    assert [picture.name for picture in parts[0].pictures] == ["final-00000001-panels"]

    small(folders[2], configs[2], 0.9)
    parts, _ = parts_of(results)
    assert "1 of 3 runs has finished." in parts[0].notes
    rows = table(parts, "-seeds")
    assert rows["state"].tolist() == ["pending", "failed", "done"]
    assert rows["flags"].tolist() == ["", "NONFINITE", ""]
    assert rows["test, top-1"].tolist()[:2] == ["-", "-"]


def test_nothing_at_all_is_said_so(tmp_path: Path) -> None:
    results = tmp_path / "results"
    launch(results, seeded(2))
    parts, _ = parts_of(results)
    assert "No run has finished yet" in parts[0].notes[-1]
    assert not parts[0].pictures


@pytest.mark.parametrize("damaged", [False, True])
def test_without_predictions_the_seeds_remain(tmp_path: Path, damaged: bool) -> None:
    results = tmp_path / "results"
    (config,) = configs = seeded(1)
    (folder,) = launch(results, configs)
    finish(folder, config)
    if damaged:
        (folder / PREDICTIONS).write_bytes(b"PAR1")
    parts, study = parts_of(results)
    assert len(table(parts, "-seeds")) == 1
    assert f"{name_of(config)} has no usable predictions." in parts[2].notes[0]
    assert not parts[2].tables
    assert len(study.problems) == damaged


def test_under_mixup_train_accuracy_is_said_to_be_on_mixed_images(tmp_path: Path) -> None:
    results = tmp_path / "results"
    (config,) = configs = seeded(1, **{"augment.mixup": 0.2, "label_smoothing": 0.0})
    (folder,) = launch(results, configs)
    small(folder, config, 0.9)
    parts, _ = parts_of(results)
    assert "heavier of its two labels" in text(parts)
    (panels,) = parts[0].pictures
    assert "mixed and augmented images" in panels.caption
    assert "smoothing" not in panels.caption


def test_names_with_markup_and_breaks_are_drawn_and_escaped(tmp_path: Path) -> None:
    results = tmp_path / "results"
    config = protocol("resnet18")
    write_plan(results, [({}, config)], f"a {HOSTILE}".replace("/", ""), word="x\n<b>")
    folder = results / f"a {HOSTILE}".replace("/", "") / name_of(config, "x\n<b>")
    draw = np.random.default_rng(0)
    classes = [HOSTILE, "line\nbreak", "$\\frac{1}{2}$", "w" * 300]
    labels = np.arange(40) % 4
    outcome = predict(folder, labels, draw.normal(size=(40, 4)))
    finish(folder, config, classes=",".join(classes), **outcome)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parts, study = parts_of(results)
        page = Page("t", [Section("Diagnostics", parts)])
        html = page.html()
    assert not study.problems
    assert "<script>alert" not in html
    assert "x\n<b>" not in html
    assert "&lt;b&gt;" in html
    names = [one.name for part in parts for one in part.tables]
    names += [one.name for part in parts for one in part.pictures]
    assert not [name for name in names if re.search(r"[^A-Za-z0-9_-]", name)]


# --- figures -----------------------------------------------------------------------------------


def spread(classes: int, images: int = 400, names: str = "class {}") -> Predictions:
    draw = np.random.default_rng(classes)
    labels = draw.integers(0, classes, images)
    logits = draw.normal(size=(images, classes)) + 2.5 * np.eye(classes)[labels]
    return Predictions(
        "t",
        np.arange(images, dtype=np.int32),
        labels,
        logits.astype(np.float32),
        tuple(names.format(i) for i in range(classes)),
    )


@pytest.mark.long
@pytest.mark.parametrize("classes", [2, 10, 101])
def test_figures_hold_any_number_of_classes(classes: int) -> None:
    found = spread(classes)
    counts = classification.confusion(found)
    drawn = figures.matrix(counts, found.classes)
    others = [
        figures.class_bars(classification.accuracies(found)),
        figures.calibration(classification.reliability(found), "t"),
        figures.confusion_bars(classification.confusions(found)),
    ]
    with warnings.catch_warnings():
        # Also of a layout that has no room.
        warnings.simplefilter("error")
        for figure in [drawn, *others]:
            figure.draw_without_rendering()
    texts = [text.get_text() for text in drawn.axes[0].texts]
    if classes > 20:
        assert not texts
    else:
        shown = sorted(map(int, texts))
        off = counts[~np.eye(classes, dtype=bool)]
        assert shown == sorted([*np.diag(counts).tolist(), *off[off > 0].tolist()])


def test_the_diagonal_is_out_of_the_colour_scale() -> None:
    counts = np.array([[900, 3, 0], [1, 950, 7], [0, 0, 10]])
    image = figures.matrix(counts, ("a", "b", "c")).axes[0].images[0]
    assert image.get_clim() == (1, 7)
    shown: Any = image.get_array()
    assert np.ma.getmaskarray(shown).tolist() == [
        [True, False, True],
        [False, True, False],
        [True, True, True],
    ]


def test_the_panels_show_each_loss_by_its_name(tmp_path: Path) -> None:
    rows = [
        dict.fromkeys(EPOCHS_SCHEMA.names, 0.5)
        | {"epoch": i, "train_accuracy": 0.5 + i / 10, "val_accuracy": 0.6, "lr": 0.1 / (i + 1)}
        for i in range(3)
    ]
    write_table(tmp_path / EPOCHS, rows, EPOCHS_SCHEMA)
    epochs = pq.read_table(tmp_path / EPOCHS).to_pandas().assign(trial="t")
    drawn = figures.panels(epochs, {"t": "seed 42"}, {"t": 1}, smoothing=True, mixed=True)
    loss, _, rate, gap = drawn.axes
    legend = loss.get_legend()
    assert legend is not None
    assert [one.get_text() for one in legend.get_texts()] == [
        "train: running mean, mixed and augmented images, smoothed",
        "validation, smoothed alike",
        "validation, plain",
    ]
    assert np.asarray(gap.lines[0].get_ydata()) == pytest.approx([-10, 0, 10])
    assert np.asarray(gap.lines[1].get_xdata()) == pytest.approx([2])
    assert np.asarray(rate.lines[0].get_ydata()) == pytest.approx([0.1, 0.05, 0.1 / 3])
    plain = figures.panels(epochs, {"t": "seed 42"}, {}, smoothing=False, mixed=False)
    legend = plain.axes[0].get_legend()
    assert legend is not None
    assert [one.get_text() for one in legend.get_texts()] == [
        "train: running mean, augmented images",
        "validation",
    ]
    assert STYLE["text.parse_math"] is False


def test_the_same_predictions_give_the_same_bytes() -> None:
    def drawn() -> bytes:
        found = spread(3)
        return png(figures.matrix(classification.confusion(found), found.classes))

    assert drawn() == drawn()
