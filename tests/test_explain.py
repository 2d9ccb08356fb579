"""What the report shows of a run's images: Grad-CAM and the gallery of what it got wrong."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from results_folder import HOSTILE, name_of, write_plan
from small_networks import DIGITS, predictions, small, untrained

from analysis.cifar10.explain import section, tested
from analysis.cifar10.explain.grad_cam import grad_cam
from analysis.cifar10.task import load
from analysis.data.predictions import Predictions, of
from analysis.data.study import Study
from analysis.figures import explain as figures
from analysis.figures.style import pdf, png
from analysis.output.model import Part, Section
from analysis.output.page import Page
from local_machine.errors import EXIT_IO, EXIT_USAGE, InputError
from sweeps.run import checkpoint_file
from sweeps.run.checkpoint_file import Saved
from trainer.alone import train_alone as train
from trainer.config import DataConfig
from trainer.data.datasets import Dataset
from trainer.data.datasets import load as load_data
from trainer.records import saved_weights
from trial_records.trial_files import CHECKPOINT, CONFIG

# In one process, for its trained trials are what takes time.

# --- what is on disk ---------------------------------------------------------------------------


def test_a_report_neither_downloads_nor_decodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEPS_CACHE", str(tmp_path / "cache"))
    for part in ("train", "test"):
        for name in "ab":
            folder = tmp_path / "data" / part / name
            folder.mkdir(parents=True)
            for shade in range(4):
                Image.new("RGB", (32, 32), (40 * shade, 0, 0)).save(folder / f"{shade}.png")
    made = replace(
        predictions(np.eye(2)[[0, 0, 0, 0, 1, 1, 1, 1]], np.repeat([0, 1], 4)), classes=("a", "b")
    )
    here = DataConfig(root=str(tmp_path / "data"), val_fraction=0.25)
    for config in (DataConfig(), here):
        with pytest.raises(InputError, match="not decoded on this machine") as caught:
            tested.images(config, made)
        assert caught.value.exit_code == EXIT_USAGE
        assert "SWEEPS_CACHE" in caught.value.help
    assert not (tmp_path / "cache").exists()
    with pytest.raises(InputError, match="no such folder") as caught:
        tested.images(DataConfig(root=str(tmp_path / "gone")), made)
    assert caught.value.exit_code == EXIT_USAGE

    load_data(here)  # as a trial does, which decodes
    found = tested.images(here, made)
    assert found.images[:, 0, 0, 0].tolist() == [0, 40, 80, 120] * 2
    (cache,) = (tmp_path / "cache").glob("*.npz")
    cache.write_bytes(cache.read_bytes()[:-500])
    with pytest.raises(InputError, match="damaged") as caught:
        tested.images(here, made)
    assert caught.value.exit_code == EXIT_IO


def test_each_prediction_gets_its_own_image(dataset: Dataset) -> None:
    order = np.random.default_rng(0).permutation(len(dataset.test_labels))
    made = Predictions(
        "t",
        dataset.test_index[order],
        dataset.test_labels[order],
        np.zeros((len(order), 10), np.float32),
        dataset.classes,
    )
    found = tested.images(DIGITS, made)
    assert np.array_equal(found.images, dataset.test_images[order])
    assert (found.mean, found.std) == (dataset.mean, dataset.std)
    labels = made.labels.copy()
    labels[0] = (labels[0] + 1) % 10
    for other in (
        replace(made, index=made.index + 1),
        replace(made, labels=labels),
        replace(made, classes=tuple("abcdefghij")),
        replace(made, index=made.index[1:], labels=made.labels[1:], logits=made.logits[1:]),
    ):
        with pytest.raises(InputError, match="not those that t was tested on") as caught:
            tested.images(DIGITS, other)
        assert caught.value.exit_code == EXIT_IO


# --- a trial -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load_data(DIGITS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results with a trial of each kind that the section tells apart."""
    results = tmp_path_factory.mktemp("trained")
    for sweep, config in {
        "final": small(),
        "bf16": small(precision="bf16"),
        "vit": small("vit", **{"model.width": 0.2}),
    }.items():
        write_plan(results, [({}, config)], sweep)
        train(config, results / sweep / name_of(config))
    return results


@pytest.fixture
def results(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "results"))


def read(results: Path, sweep: str = "final") -> tuple[Study, Any, Mapping[str, Any], Predictions]:
    study = load(results, [sweep])
    (plan,) = study.plans
    run = plan.runs.to_dict("records")[0]
    found = of(study, plan, run)
    assert found is not None
    return study, plan, run, found


def parts(results: Path, sweep: str = "final") -> tuple[Part, Part, Study]:
    study, *rest = read(results, sweep)
    maps, gallery = section.parts(study, *rest)
    assert (maps.title, gallery.title) == ("Grad-CAM", "Misclassified images")
    return maps, gallery, study


def folder(results: Path, sweep: str = "final") -> Path:
    (path,) = (results / sweep).glob("t-*")
    return path


@pytest.mark.long
def test_a_trial_has_its_maps_and_its_misclassified_images(trained: Path, dataset: Dataset) -> None:
    maps, gallery, study = parts(trained)
    *_, made = read(trained)
    assert study.problems == []
    (picture,) = maps.pictures
    assert picture.raster
    assert "Selvaraju et al. 2017" in " ".join(maps.notes)
    assert made.trial in picture.caption

    wrong = int((~made.right).sum())
    assert gallery.notes == [f"{wrong} of 100 test images are misclassified."]
    assert gallery.gallery is not None
    samples = gallery.gallery.samples
    assert len(samples) == wrong
    confidences = [sample.confidence for sample in samples]
    assert confidences == sorted(confidences, reverse=True)
    images = dict(zip(dataset.test_index.tolist(), dataset.test_images, strict=True))
    labels = dict(zip(dataset.test_index.tolist(), dataset.test_labels.tolist(), strict=True))
    for sample in samples:
        with Image.open(io.BytesIO(sample.png)) as image:
            assert np.array_equal(np.asarray(image), images[sample.index])
        assert sample.true == str(labels[sample.index]) != sample.predicted


def test_the_loaded_weights_give_the_recorded_logits(trained: Path) -> None:
    study, plan, run, made = read(trained)
    where = study.folder(plan, run["trial"])
    config = tested.config(where, run["fingerprint"])
    weights = tested.weights(where, config.fingerprint)
    data = tested.images(config.data, made)
    look = grad_cam(config, weights, data, np.arange(100), made.predicted)
    assert look is not None
    np.testing.assert_allclose(look.logits, made.logits, atol=1e-3)


@pytest.mark.long
def test_the_same_trial_gives_the_same_bytes(trained: Path) -> None:
    def content() -> list[bytes]:
        maps, gallery, _ = parts(trained)
        pictures = maps.pictures + gallery.pictures
        assert gallery.gallery is not None
        return [
            *(png(picture.figure) for picture in pictures),
            pdf(pictures[0].figure),
            *(sample.png for sample in gallery.gallery.samples),
        ]

    assert content() == content()


def test_a_run_in_bf16_is_checked_by_its_classes(trained: Path) -> None:
    maps, _, study = parts(trained, "bf16")
    assert study.problems == []
    assert len(maps.pictures) == 1
    assert "tested in bf16" in maps.notes[-1]


def test_an_architecture_without_a_convolutional_map_says_so(trained: Path) -> None:
    maps, gallery, study = parts(trained, "vit")
    assert study.problems == []
    assert maps.pictures == []
    assert "vit has no convolutional map" in maps.notes[0]
    assert gallery.gallery is not None


def test_results_without_checkpoints_are_no_problem(results: Path) -> None:
    (folder(results) / CHECKPOINT).unlink()
    maps, gallery, study = parts(results)
    assert study.problems == []
    assert maps.pictures == []
    assert f"{CHECKPOINT} is missing" in maps.notes[0]
    assert "copy it from where the trial ran" in maps.notes[0]
    assert gallery.gallery is not None


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def other_trial(path: Path) -> None:
    checkpoint_file.write(path, Saved({"best_weights": {"x": torch.zeros(1)}}, "f" * 64))


def no_weights(path: Path) -> None:
    checkpoint_file.write(path, Saved({"best_weights": {}}, small().fingerprint))


def foreign_weights(path: Path) -> None:
    checkpoint_file.write(path, Saved({"best_weights": {"x": torch.zeros(1)}}, small().fingerprint))


def odd_state(path: Path) -> None:
    checkpoint_file.write(path, Saved({"best_weights": [1, 2]}, small().fingerprint))


@pytest.mark.parametrize("damage", [cut, flip, other_trial, no_weights, foreign_weights, odd_state])
def test_a_damaged_checkpoint_is_a_problem(results: Path, damage: Callable[[Path], None]) -> None:
    damage(folder(results) / CHECKPOINT)
    maps, gallery, study = parts(results)
    assert len(study.problems) == 1
    assert study.problems[0].what in maps.notes[0]
    assert maps.pictures == []
    assert gallery.gallery is not None


@pytest.mark.parametrize("sweep", ["final", "bf16"])
def test_a_checkpoint_that_gives_other_predictions_is_a_problem(results: Path, sweep: str) -> None:
    path = folder(results, sweep) / CHECKPOINT
    fingerprint = read(results, sweep)[2]["fingerprint"]
    state = saved_weights.load(path, fingerprint)
    assert state is not None
    _, state["best_weights"] = untrained(small())
    checkpoint_file.write(path, Saved(state, fingerprint))
    maps, gallery, study = parts(results, sweep)
    (problem,) = study.problems
    assert "the checkpoint does not reproduce the recorded predictions" in problem.what
    assert problem.what in maps.notes[0]
    assert maps.pictures == []
    assert gallery.gallery is not None


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_logits_that_are_not_finite_reproduce_nothing(precision: str) -> None:
    recorded = np.eye(3, dtype=np.float32)
    assert section._reproduces(recorded, recorded, precision)
    assert not section._reproduces(recorded * np.nan, recorded, precision)
    assert not section._reproduces(recorded[::-1], recorded, precision)


def test_other_images_than_the_tested_ones_are_a_problem(results: Path) -> None:
    study, plan, run, made = read(results)
    other = replace(made, labels=(made.labels + 1) % 10)
    maps, gallery = section.parts(study, plan, run, other)
    assert maps.pictures == gallery.pictures == []
    assert gallery.gallery is None
    # Both need the images; it is one problem.
    assert len(study.problems) == 1
    assert "not those that" in maps.notes[0]
    assert gallery.notes[0].endswith("are misclassified.")


@pytest.mark.parametrize(
    ("content", "problems", "said"),
    [
        (None, 0, "is missing"),
        ("{", 1, "config.json"),
        (small(seed=7).to_json(), 1, "of another configuration"),
    ],
)
def test_a_config_that_is_not_the_trials(
    results: Path, content: str | None, problems: int, said: str
) -> None:
    path = folder(results) / CONFIG
    path.unlink()
    if content is not None:
        path.write_text(content)
    maps, gallery, study = parts(results)
    assert len(study.problems) == problems
    assert said in maps.notes[0]
    assert gallery.gallery is None


def test_a_gallery_of_many_keeps_the_most_confident(trained: Path) -> None:
    *_, made = read(trained)
    count = 1234
    labels = np.zeros(count, np.int64)
    logits = np.zeros((count, 10), np.float32)
    logits[:, 1] = 1 + np.arange(count) / count
    many = Predictions("t", np.arange(count, dtype=np.int32), labels, logits, made.classes)
    images = np.zeros((count, 32, 32, 3), np.uint8)
    part = section._misclassified(many, images, "t")
    assert part.gallery is not None
    assert part.gallery.caption.startswith("The 400 most confident of 1,234 misclassified")
    assert [sample.index for sample in part.gallery.samples] == list(range(1233, 833, -1))
    assert part.pictures[0].caption.startswith("The first 60 of 1,234 misclassified")

    none = section._misclassified(replace(many, labels=labels + 1), images, "t")
    assert none.notes == ["0 of 1,234 test images are misclassified."]
    assert none.gallery is None


# --- figures -----------------------------------------------------------------------------------


@pytest.mark.long
def test_class_names_with_markup_are_only_text(tmp_path: Path, trained: Path) -> None:
    study, plan, run, made = read(trained)
    names = (HOSTILE, "$x_1$\n\\frac", "W" * 300, "", *made.classes[4:])
    hostile = replace(made, classes=names)
    data = replace(tested.images(DIGITS, made), classes=names)
    config = tested.config(study.folder(plan, run["trial"]), run["fingerprint"])
    found = [
        section._grad_cam(study, plan, run, hostile, config, data, "t"),
        section._misclassified(hostile, data.images, "t"),
    ]
    assert study.problems == []
    assert len(found[0].pictures) == len(found[1].pictures) == 1
    page = Page("t", [Section("Diagnostics", found)]).write(tmp_path / "report").read_text()
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_the_image_is_still_seen_under_its_map() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, 16:] = 255
    heat = np.tile(np.linspace(0, 1, 32, dtype=np.float32)[:, None], 32)
    over = figures.overlay(image, heat).astype(float)
    assert over.shape == image.shape
    # Black and white stay far apart at any heat, and so do no and most heat on either.
    assert (over[:, 16:].sum(2) - over[:, :16].sum(2)[:, ::-1] > 200).all()
    assert (np.abs(over[0] - over[-1]).sum(1) > 200).all()


def test_a_long_name_is_cut_and_not_lost() -> None:
    assert figures._wrap(["automobile", "97 %"], 15, 1) == "automobile\n97 %"
    assert figures._wrap(["w" * 300, "97 %"], 15, 1) == "w" * 14 + "…\n97 %"
    assert figures._wrap(["red fox hunting a hare"], 15, 2) == "red fox hunting\na hare"
    assert figures._wrap(["red fox hunting a hare"], 15, 1) == "red fox huntin…"
    assert figures._wrap(["a\nb", ""], 15, 2) == "a b"


@pytest.mark.parametrize("classes", [1, 4, 5, 10])
def test_nothing_in_the_figures_overlaps_or_is_cut(classes: int) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    tile = figures.Tile(
        np.zeros((32, 32, 3), np.uint8), [HOSTILE, "> 99 %"], np.zeros((32, 32), np.float32)
    )
    for figure in (
        figures.grad_cam([(HOSTILE, tile, tile if i else None) for i in range(classes)]),
        figures.sheet([tile] * 6 * classes),
    ):
        renderer = FigureCanvasAgg(figure).get_renderer()
        paper, *bars = figure.axes
        # A bar's box with its numbers and its label.
        drawn = [*paper.texts, *paper.images, *(bar.get_tightbbox(renderer) for bar in bars)]
        boxes = [
            one.get_window_extent(renderer) if hasattr(one, "get_window_extent") else one
            for one in drawn
        ]
        for i, box in enumerate(boxes):
            assert box is not None
            assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, drawn[i]
            assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, drawn[i]
            for j, other in enumerate(boxes[:i]):
                assert not box.overlaps(other), (drawn[i], drawn[j])
