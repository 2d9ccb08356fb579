"""From Parquet to tables, figures and a report."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from local_machine.errors import folder_named, need, quiet_while_importing

quiet_while_importing()


def write_report(
    names: str | Iterable[str] = (),
    results: str | Path = "results",
    out: str | Path | None = None,
    *,
    compare: tuple[str | Path, str | Path] | None = None,
) -> Path:
    """Turn the results of sweeps into a report, as `python -m analysis.report` does: HTML,
    Markdown, tables and figures. The same results give the same bytes.

    Args:
        names: Sweeps of the results folder; none means all of them.
        results: The folder in which the sweeps' results lie.
        out: Where to write; default: `report` in the results folder. An earlier report there is
            replaced whole, and files of others beside it stay.
        compare: Two results folders, before and after a change, which are set beside each other
            instead; `out` is then by default `comparison` in the second.

    Returns:
        The path of report.html. What could not be read is named on stderr and in the report's last
        section, and the rest is used.

    Raises:
        InputError: `results` or a name is unknown, no plan could be read, `out` holds files that
            no report wrote, or the packages of the extra `report` are not installed.
        OSError: The report could not be written.
    """
    need("report", "a report")
    from analysis.whole_report import write

    chosen = [names] if isinstance(names, str) else names
    folders = compare and (Path(compare[0]), Path(compare[1]))
    return write(chosen, folder_named(results), None if out is None else Path(out), folders).path


__all__ = ["write_report"]
