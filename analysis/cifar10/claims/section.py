"""Claims of the reported study: each with its answer, then its protocol beside what ran."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from analysis.cifar10 import protocol
from analysis.cifar10.claims.answers import Answer, Standing
from analysis.cifar10.claims.claim import EPOCHS, NATS, POINTS
from analysis.cifar10.claims.every_claim import Answered, summary
from analysis.cifar10.claims.evidence import Evidence
from analysis.cifar10.claims.scorecard import counts
from analysis.cifar10.reported import reported
from analysis.data.study import Study
from analysis.output.model import Part, Section, Table
from analysis.stats.intervals import ALPHA, MIN_SEEDS
from analysis.text.numbers import p_value


def claims(study: Study, found: list[Answered]) -> Section:
    source = reported()["source"]
    runs = source["runs_per_cell"]
    notes = [
        f"The reported study: {source['study']}; seed {source['seed']}, {runs} run per cell. "
        f"{source['units']}",
        summary(found),
        "Comparable is a launch at full scale, on the same images (by the hash of their content), "
        "with the reported settings in all that it does not vary. What other launches show of a "
        "claim stands beside it in brackets, and answers nothing.",
    ]
    table = pd.DataFrame([_row(*one) for one in found])
    return Section(
        "Claims of the reported study",
        [
            Part(
                "", notes, [Table("claims", "Each claim of the reported study", table)], [],
                _rules(found),
            ),
            _protocol(study),
        ],
        counts(found),
    )  # fmt: skip


def _row(
    statement: str, where: str, evidence: Evidence | None, answer: Answer, command: str
) -> dict[str, str]:
    row = {"claim": statement, "reported in": where, "answer": str(answer.standing)}
    if evidence is None:
        return row | {"measured": f"To ask: python -m sweeps.launch {command}", "test": "-"}
    if evidence.why_not:
        measured = f"({', '.join(evidence.why_not)}: {evidence.measured})"
        return row | {"measured": measured, "test": "-"}
    test = f"{evidence.test}: not enough seeds or trials"
    if answer.p is not None:
        test = f"{evidence.test}: p {p_value(answer.p)}"
    if answer.standing is Standing.UNDECIDED:
        test += _undecided(evidence)
    return row | {"measured": evidence.measured, "test": test}


def _undecided(evidence: Evidence) -> str:
    """Which way what was measured goes, and how many seeds would tell."""
    said = ""
    if evidence.is_near is None and evidence.comparisons:
        ways = {one.agrees for one in evidence.comparisons}
        which = "both ways" if len(ways) == 2 else "its way" if ways == {True} else "the other way"
        said = f"; what was measured goes {which}"
    hardest = max(evidence.comparisons, key=lambda one: one.p or 0, default=None)
    return said + (f"; {hardest.would}" if hardest and hardest.would else "")


def _rules(found: list[Answered]) -> list[str]:
    family = max((answer.claims for *_, answer, _ in found), default=0)
    return [
        "A claim of order is reproduced where seeds tell all of its comparisons, the largest "
        "p-value being the claim's, and contradicted where they tell one that goes the other way "
        "(the smallest, adjusted by Holm for all comparisons of the claim). A claim that does not "
        "say of which value it is true, as that of MixUp, is contradicted only where all go the "
        "other way. A claim of figures is contradicted where the reported run could not be one "
        "more of ours (adjusted alike), and reproduced where it could and the 95 % interval of one "
        f"more run reaches no farther than {100 * POINTS:g} point, {NATS:g} nats or {EPOCHS} "
        "epochs to either side. All else is undecided.",
        f"p: adjusted once more by Holm for all claims that have one, {family} here; told where "
        f"it is at most {ALPHA:g}. Under {MIN_SEEDS} seeds there is none, and nothing is told.",
    ]


def _protocol(study: Study) -> Part:
    table = protocol.rows(study)
    counts = table["answer"].str.replace(r"equal in .*", "equal in some trials", regex=True)
    counts = counts.replace("differs", "different")
    told = ", ".join(f"{n} {answer}" for answer, n in counts.value_counts().items())
    return Part(
        "Its protocol",
        [f"Of {len(table)} facts of its protocol: {told}."],
        [Table("protocol", "The reported protocol beside what ran", table)],
        [],
        list(_about_protocol()),
    )


def _about_protocol() -> Iterator[str]:
    yield (
        "ran: the values of the trials with a result, in brackets how many trials or, of the grid, "
        "of runs per cell and of the final model, launches. Trials of a launch or search that "
        "varies the field are not counted. Without a number stands what this trainer does in every "
        "trial."
    )
    yield (
        f"Reported of weight decay: {reported()['protocol']['optimizer']['weight_decay_search']}."
    )
    cells = reported()["grid_bs_epoch"]["cells"]
    pairs = sorted({(cell["epochs_printed"], cell["epochs"]) for cell in cells})
    told = ", ".join(f"{printed} ({epochs})" for printed, epochs in pairs)
    yield f"Epochs of the grid's cells as printed, and in brackets beside which of ours: {told}."
