"""Slow imports: says which file it is where a definition is still running after some seconds.

A module that trains when it is imported would otherwise look like a launch that hangs.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

SECONDS = 2.0
"""Until it is said; then twice as long until it is said again, and so on."""
LONG = 7.0
"""After so many seconds what imports may be more than libraries."""
_ADVICE = '. Where it trains when it is imported, put that under `if __name__ == "__main__":`'


@contextlib.contextmanager
def said_while_running(path: Path) -> Iterator[None]:
    """While a definition file runs in this thread."""
    over = threading.Event()
    thread = threading.get_ident()

    def watch() -> None:
        wait = waited = SECONDS
        while not over.wait(wait):
            _say(path, sys._current_frames().get(thread), waited)
            wait = waited
            waited += wait

    watcher = threading.Thread(target=watch, name="slow import", daemon=True)
    try:
        watcher.start()
    except RuntimeError:  # this machine starts no further thread
        yield
        return
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _say(path: Path, frame: FrameType | None, waited: float) -> None:
    file = _imported(frame) or str(path)
    what = f"still importing {file}" + (f", for {path}" if file != str(path) else "")
    with contextlib.suppress(OSError, ValueError):
        print(
            f"{what}: {waited:g} s so far. Ctrl-C ends it{_ADVICE if waited > LONG else ''}",
            file=sys.stderr,
            flush=True,
        )


def _imported(frame: FrameType | None) -> str | None:
    """The file whose own lines are being run: the innermost one that is being imported and is not
    of an installed package."""
    found = None
    while frame is not None:
        code = frame.f_code
        is_module = code.co_name == "<module>" and not code.co_filename.startswith("<")
        if is_module:
            found = found or code.co_filename
            if not any(part in code.co_filename for part in ("site-packages", "dist-packages")):
                return code.co_filename
        frame = frame.f_back
    return found
