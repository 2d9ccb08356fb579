"""The charts of a launch: curves, parallel coordinates, a table of trials, two trials compared."""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path

from markupsafe import Markup

from analysis.data.study import Plan, Study
from analysis.interactive import packed, rows
from analysis.interactive.columns import columns, varied
from analysis.interactive.curves import EXACT, METRICS_OF_MANY, POINTS, curves
from analysis.interactive.predicted import predicted
from analysis.output.model import Interactive
from analysis.sections import wording

_SCRIPTS = Path(__file__).with_name("scripts")
# In the order in which each uses those before.
_OWN = ("decode", "filters", "parallel", "table", "curves", "comparison", "address", "explorer")
_MANY_AXES = 3


def charts(plan: Plan, study: Study) -> list[Interactive]:
    """One that links them all. Files of predictions that are damaged become problems of the
    study."""
    name = f"{wording.name(plan)}-explorer"
    caption = (
        f"Explore the {len(plan.runs):,} trials of {plan.sweep}: filter them, draw their curves, "
        "choose two of them to compare. All values are as stored: accuracies are fractions."
    )
    if len(plan.runs) > EXACT:
        caption += (
            f" Of the best {EXACT} trials the curves are exact. Of each other one they are of "
            f"{METRICS_OF_MANY} metrics, at {POINTS} points at most, in 16 bits."
        )
    markup = str(Markup('<div class="explorer" id="{}"></div>').format(name))
    return [Interactive(name, caption, markup, data(plan, study), scripts())]


def data(plan: Plan, study: Study) -> str:
    """JSON, which depends on the study alone: what `window.sweepsCharts[NAME].update` takes."""
    logged = rows.of(plan)
    return json.dumps(
        {
            "names": packed.texts(list(plan.runs["trial"])),
            "direction": plan.task.direction,
            "parallel": plan.search is not None or len(varied(plan)) >= _MANY_AXES,
            "columns": [column.packed() for column in columns(plan, logged)],
            "curves": curves(plan, logged),
            "predictions": predicted(plan, study),
        }
    )


@cache
def scripts() -> tuple[str, ...]:
    """Bokeh's, where it is installed, and our own as one."""
    texts = [(_SCRIPTS / f"{name}.js").read_text() for name in _OWN]
    sheet = json.dumps((_SCRIPTS / "explorer.css").read_text()).replace("<", "\\u003c")
    own = '"use strict";\n(() => {\nconst SHEET = ' + sheet + ";\n" + "\n".join(texts) + "})();\n"
    return (*_bokeh(), own)


def _bokeh() -> tuple[str, ...]:
    # Found and not imported: that would take a second, and only its script is wanted.
    found = importlib.util.find_spec("bokeh")
    if found is None or found.origin is None:
        return ()
    return ((Path(found.origin).parent / "server/static/js/bokeh.min.js").read_text(),)
