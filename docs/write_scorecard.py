"""Brings the README's table of claims to what lies in results/.

    python docs/write_scorecard.py

A row for each claim of the reported study: its answer at full scale, which launch answers it, the
GPU-hours that it still takes, and, of claims of order, what a smaller scale has of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from analysis.cifar10.claims.answers import Standing
from analysis.cifar10.claims.every_claim import Answered, answered
from analysis.cifar10.claims.own_scale import at_own_scale
from analysis.cifar10.claims.scorecard import hours_left
from analysis.cifar10.task import load
from analysis.text.numbers import count

ROOT = Path(__file__).parents[1]
PAGE, RESULTS = ROOT / "README.md", ROOT / "results"
BEGIN, END = "<!-- claims: python docs/write_scorecard.py -->\n", "<!-- end of claims -->\n"
_OF_SCALE = {
    Standing.REPRODUCED: "holds",
    Standing.CONTRADICTED: "does not hold",
    Standing.UNDECIDED: "undecided",
}
_HEADINGS = (
    "claim of the reported study", "full scale", "by", "H100-hours to ask",
    "smaller scale, of itself alone",
)  # fmt: skip


def written(page: str, results: Path = RESULTS) -> str:
    """The page with its table brought to the results. Raises ValueError where it has no place for
    it."""
    found = re.search(f"{re.escape(BEGIN)}.*?{re.escape(END)}", page, re.DOTALL)
    if found is None:
        raise ValueError(f"the README has no place for it: {BEGIN.strip()}, then {END.strip()}")
    return page.replace(found[0], f"{BEGIN}{table(results)}{END}")


def table(results: Path) -> str:
    """In Markdown: of each claim the answer of the folder of results that has the most seeds."""
    folders = [load(path, []) for path in sorted(results.iterdir()) if path.is_dir()]
    found = [answered(study) for study in folders]
    small = [at_own_scale(one) for one in found]
    rows: list[Sequence[str]] = [_HEADINGS, ("---", "---", "---", "---:", "---")]
    left: dict[str, float] = {}
    for claims, answers in zip(zip(*found, strict=True), zip(*small, strict=True), strict=True):
        best = max(claims, key=_seeds)
        hours = hours_left(best)
        if hours is not None:
            left[best.command] = hours
        of_scale = [
            f"{_OF_SCALE[answer.standing]} ({_by(one, 'scale')})"
            for one, answer in zip(claims, answers, strict=True)
            if answer is not None
        ]
        rows.append(
            (
                best.statement,
                str(best.answer.standing),
                _by(best, "devices") if _seeds(best) else "-",
                "-" if hours is None else f"{hours:.2f}",
                "; ".join(of_scale) or "-",
            )
        )
    # Claims that one sweep asks share its hours.
    rows.append(("all that is open", "", "", f"{sum(left.values()):.1f}", ""))
    return "\n".join(["", *(f"| {' | '.join(row)} |" for row in rows), "", ""])


def _seeds(one: Answered) -> int:
    """With how many seeds it is answered at full scale."""
    if one.evidence is None or one.answer.standing is Standing.NOT_RUN:
        return 0
    return min(by.seeds for by in one.evidence.by)


def _by(one: Answered, where: str) -> str:
    """Which launches have its trials, with how many seeds, and their devices or scale."""
    assert one.evidence is not None
    return "; ".join(
        f"`{by.sweep}`, {count(by.seeds, 'seed')}, "
        + (f"`{by.scale}`" if where == "scale" else " and ".join(by.devices))
        for by in one.evidence.by
    )


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
    print(PAGE)
