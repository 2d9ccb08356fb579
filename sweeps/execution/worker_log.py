"""What a worker says: lines with their time, without secrets."""

from __future__ import annotations

import collections
import logging
import sys

from local_machine.secrets import masked


class _Masking(logging.Formatter):
    """What an error or a command says of a secret stays out of the log."""

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


class _Tail(logging.Handler):
    """Keeps the last lines for failure.json."""

    def __init__(self, lines: collections.deque[str]) -> None:
        super().__init__()
        self.lines = lines

    def emit(self, entry: logging.LogRecord) -> None:
        self.lines.extend(self.format(entry).splitlines())


def start_logging(tail: collections.deque[str]) -> None:
    """Log lines to stderr, which is the worker's log file where launch started it; the last of them
    to `tail`, too."""
    form = _Masking("%(asctime)s %(message)s")
    for handler in (logging.StreamHandler(sys.stderr), _Tail(tail)):
        handler.setFormatter(form)
        logging.getLogger().addHandler(handler)
    logging.getLogger().setLevel(logging.INFO)
