"""Run one trial from a configuration file.

python -m trainer CONFIG.json OUT
torchrun --nproc-per-node 2 -m trainer CONFIG.json OUT
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from local_machine import origin
from local_machine.code import references
from local_machine.errors import (
    EXIT_DONE,
    EXIT_FLAGGED,
    drawn_on,
    folder_named,
    need,
    print_error,
    run_command,
)

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def main(
    config: Annotated[Path, typer.Argument(help="A configuration, as config.json holds it.")],
    out: Annotated[
        Path,
        typer.Argument(
            parser=folder_named, metavar="out", help="The trial's folder, made where there is none."
        ),
    ],
) -> int:
    """Train one trial; run again, it resumes from its checkpoint."""
    need("trainer", "training by trainer/")
    origin.begin()
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from trainer.config import TrainConfig

    settings = TrainConfig.from_file(config)
    if own := references.places_of(settings.own.values()):
        origin.begin(origin.PACKAGE, *own)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    from trainer import process_cache

    # While torch is imported.
    process_cache.read_ahead(settings.data)
    from trainer.alone import train_alone
    from trainer.train import NonFiniteLossError, epoch_line

    console = Console(file=drawn_on(sys.stderr), highlight=False)
    # Off a terminal a bar is noise; the lines above it stay.
    quiet = not console.is_terminal or os.environ.get("RANK", "0") != "0"
    bar = Progress(
        BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console, disable=quiet
    )
    with bar:
        task = bar.add_task("epochs", total=settings.epochs)

        def say(row: dict[str, Any]) -> None:
            console.print(epoch_line(row, settings.epochs), soft_wrap=True)
            bar.update(task, completed=row["epoch"] + 1)

        try:
            run = train_alone(settings, out, say)
        except NonFiniteLossError as error:
            print_error(str(error), "lower optimizer.lr, or add schedule.warmup_epochs")
            return EXIT_FLAGGED
    if os.environ.get("RANK", "0") == "0":
        print(f"validation {run['val_accuracy']:.4f}, test {run['test_accuracy']:.4f}: {out}")
    return EXIT_DONE


if __name__ == "__main__":
    run_command(app)
