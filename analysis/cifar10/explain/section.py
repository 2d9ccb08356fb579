"""Explain: where one run's network looked, and the images that it got wrong."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.cifar10.explain import tested
from analysis.cifar10.explain.grad_cam import Look, grad_cam
from analysis.cifar10.explain.samples import Pair, misclassified, pairs
from analysis.cifar10.explain.tested import Images, Pixels
from analysis.data.predictions import Predictions
from analysis.data.study import Plan, Study
from analysis.figures import explain as figures
from analysis.figures.explain import Tile
from analysis.output.model import Gallery, Part, Picture, Sample
from analysis.sections import wording
from analysis.text import words
from analysis.text.numbers import count, percent
from local_machine.errors import EXIT_IO, InputError, need
from trainer.config import TrainConfig

Run = Mapping[str, Any]

_CLASSES = 10  # rows of the figure
_SAMPLES = 400  # of the gallery
_SHEET = 60

# How far a logit may lie from the recorded one, as a part of the largest: TF32 and the order of
# sums move an fp32 run's by less. bf16 moves them further, and there the classes are compared.
_LOGITS = 0.01
_CLASSES_AGREE = 0.9
_RULE = "most confident first, equal ones by their place in the test set"


def parts(study: Study, plan: Plan, run: Run, predictions: Predictions) -> list[Part]:
    """Grad-CAM and the misclassified images of a finished trial; `run` is a row of `plan.runs`.

    What is missing is said in the notes; a file that is damaged is also one of the study's
    problems. Draws every figure.
    """
    name = words.file_name(f"{wording.name(plan)}-{run['trial']}")
    try:
        need("trainer", "Grad-CAM and its images")
        config = tested.config(study.folder(plan, str(run["trial"])), str(run["fingerprint"]))
        data = tested.images(config.data, predictions)
    except InputError as error:
        note = _said(study, error, "The test images cannot be shown")
        return [Part("Grad-CAM", [note]), Part("Misclassified images", [_wrong(predictions), note])]
    return [
        _grad_cam(study, plan, run, predictions, config, data, name),
        _misclassified(predictions, data.images, name),
    ]


# --- where it looked ---------------------------------------------------------------------------


def _grad_cam(
    study: Study,
    plan: Plan,
    run: Run,
    predictions: Predictions,
    config: TrainConfig,
    data: Images,
    name: str,
) -> Part:
    chosen = pairs(predictions, _CLASSES)
    shown = np.array([row for pair in chosen for row in pair[1:] if row is not None])
    try:
        weights = tested.weights(study.folder(plan, str(run["trial"])), config.fingerprint)
        look = grad_cam(config, weights, data, shown, predictions.predicted[shown])
    except InputError as error:
        return Part("Grad-CAM", [_said(study, error, "There are no maps")])
    if look is None:
        said = f"{run['model.name']} has no convolutional map, which Grad-CAM needs: none is shown."
        return Part("Grad-CAM", [said])
    if not _reproduces(look.logits, predictions.logits[shown], str(run["precision_used"])):
        other = InputError(
            f"{study.folder(plan, str(run['trial']))}: the checkpoint does not reproduce the "
            "recorded predictions",
            "copy checkpoint.pt and predictions.parquet again from where the trial ran, and see "
            "that data.root holds the images that it used",
            exit_code=EXIT_IO,
        )
        said = _said(study, other, "There are no maps, which would explain other predictions")
        return Part("Grad-CAM", [said])
    heat = dict(zip(shown.tolist(), look.maps, strict=True))
    return Part("Grad-CAM", _about(run, look), [], [_maps(predictions, data, chosen, heat, name)])


def _maps(
    predictions: Predictions,
    data: Images,
    chosen: list[Pair],
    heat: Mapping[int, NDArray[np.float32]],
    name: str,
) -> Picture:
    """A row a class; `heat` has the map of each row of the predictions that is shown."""

    def tile(row: int | None) -> Tile | None:
        if row is None:
            return None
        sample = _sample(predictions, data.images, row)
        return Tile(data.images[row], [sample.predicted, sample.percent], heat[row])

    rows = [
        (predictions.classes[pair.label], tile(pair.right), tile(pair.wrong)) for pair in chosen
    ]
    left_out = ""
    if (classes := len(np.unique(predictions.labels))) > len(chosen):
        left_out = f" Of {classes} classes it has the {len(chosen)} with most misclassified images."
    caption = (
        f"Grad-CAM of {predictions.trial}. Each row is a true class: its most confident right test "
        "image and its most confident wrong one, each beside the same image in grey under the map "
        "of the predicted class, from dark blue (no evidence) to yellow (most). Text: predicted "
        f"class and its probability.{left_out}"
    )
    return Picture(f"{name}-grad-cam", caption, figures.grad_cam(rows), raster=True)


def _about(run: Run, look: Look) -> list[str]:
    return [
        "Grad-CAM (Selvaraju et al. 2017) shows where in an image the evidence for a class lay. "
        f"The channels of the last convolutional map ({look.layer} of {run['model.name']}) are "
        "weighted by the mean gradient of that class' logit and summed; what speaks against the "
        "class is set to 0; the sum is brought to the image's size bilinearly and divided by its "
        "own maximum. So one map says nothing of another's strength, and none says what was seen "
        "there, or that it was the cause.",
        "The images are chosen by a rule and not by eye: of each true class the most confident "
        "right one and the most confident wrong one; of equal ones the first in the test set. "
        "They are extremes, not typical images. Each map is of the class that was predicted.",
        f"Checked: the checkpoint gives {_agreement(str(run['precision_used']))}.",
    ]


def _reproduces(found: Any, recorded: Any, precision: str) -> bool:
    """Whether logits (n, classes), computed in fp32, are those recorded by the run."""
    if precision == "fp32":
        return bool(np.abs(found - recorded).max() <= _LOGITS * np.abs(recorded).max())
    agree = found.argmax(axis=1) == recorded.argmax(axis=1)
    return bool(np.isfinite(found).all() and agree.mean() >= _CLASSES_AGREE)


def _agreement(precision: str) -> str:
    if precision == "fp32":
        near = percent(_LOGITS, digits=0)
        return f"the recorded logits of these images, within {near} % of the largest"
    return (
        f"the recorded class for at least {percent(_CLASSES_AGREE, digits=0)} % of these images "
        f"(the run was tested in {precision}, its maps are computed in fp32)"
    )


# --- what it got wrong -------------------------------------------------------------------------


def _misclassified(predictions: Predictions, images: Pixels, name: str) -> Part:
    rows = misclassified(predictions)
    if not len(rows):
        return Part("Misclassified images", [_wrong(predictions)])
    samples = [_sample(predictions, images, row) for row in rows[:_SAMPLES].tolist()]
    kept = f"{len(samples):,} most confident of {len(rows):,}"
    if len(samples) == len(rows):
        kept = str(len(rows))
    caption = (
        f"The {kept} misclassified test images of {predictions.trial}, {_RULE}: true class → "
        "predicted class, and the latter's probability"
    )
    tiles = [
        Tile(images[row], [sample.true, f"→\N{NO-BREAK SPACE}{sample.predicted}", sample.percent])
        for row, sample in zip(rows[:_SHEET].tolist(), samples[:_SHEET], strict=True)
    ]
    first = f"The first {len(tiles)} of" if len(tiles) < len(rows) else "All"
    picture = Picture(
        f"{name}-misclassified",
        f"{first} {len(rows):,} misclassified test images of {predictions.trial}, {_RULE}: true "
        "class, → predicted class, and the latter's probability",
        figures.sheet(tiles),
        raster=True,
    )
    notes = [_wrong(predictions)]
    return Part(
        "Misclassified images",
        notes,
        [],
        [picture],
        [],
        Gallery(caption, samples, predictions.data),
    )


def _wrong(predictions: Predictions) -> str:
    wrong = int((~predictions.right).sum())
    return f"{wrong:,} of {count(len(predictions.labels), 'test image')} are misclassified."


def _sample(predictions: Predictions, images: Pixels, row: int) -> Sample:
    return Sample(
        _png(images[row]),
        int(predictions.index[row]),
        predictions.classes[predictions.labels[row]],
        predictions.classes[predictions.predicted[row]],
        float(predictions.confidence[row]),
    )


def _png(image: Pixels) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _said(study: Study, error: InputError, consequence: str) -> str:
    """A sentence for the notes. What is damaged is a problem too, once for all that need it; what
    is merely not here is none, since results are usually copied without it.
    """
    if error.exit_code == EXIT_IO and str(error) not in map(str, study.problems):
        study.problems.append(error)
    return f"{consequence}: {error.what}. What to do: {error.help}."
