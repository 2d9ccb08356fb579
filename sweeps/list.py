"""List the sweeps, searches and studies that can be launched by name, with what each is for.

python -m sweeps.list [--results DIR] [--json]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from local_machine.errors import EXIT_DONE, run_command
from sweeps.cli.options import Results

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    results: Results = Path("results"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """List what can be launched by name. Runs no definition."""
    from sweeps.cli import table
    from sweeps.spec import catalogue

    found = [*catalogue.of_project(), *catalogue.of_results(results)]
    if as_json:
        entries = [
            {"kind": one.kind, "name": one.name, "about": one.about, "path": str(one.path)}
            for one in found
        ]
        print(json.dumps({"schema_version": 1, "definitions": entries}, indent=2))
        return EXIT_DONE
    table.show(("kind", "name", "about"), [(one.kind, one.name, one.about) for one in found])
    print(
        "next: sweeps launch NAME --dry-run shows a sweep's trials; sweeps search and sweeps study "
        "take the others",
        file=sys.stderr,
    )
    return EXIT_DONE


if __name__ == "__main__":
    run_command(app, shows=True)
