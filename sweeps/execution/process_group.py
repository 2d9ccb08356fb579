"""A process group: processes that do the same work side by side in one Slurm job, on the GPU that
they share.

Each is on its own: what one dies of is nothing to the others. One that was killed is replaced.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess

from sweeps.execution.watch import watch

SECONDS = 0.2


@dataclass
class ProcessGroup:
    """So many processes of one piece of work, which is told its process's number, from 1."""

    work: Callable[[int], None]
    size: int
    replacements: int
    """How many that were killed are replaced, in all."""

    def run(self, stop: Callable[[], bool]) -> list[int]:
        """Run it until every process has ended; the exit codes of those that were not replaced.

        Once `stop` says so, all are sent SIGTERM and none is replaced.
        """
        # Not forked: a library that has threads may not go on in a copy without them.
        context = multiprocessing.get_context("spawn")

        def start(number: int) -> BaseProcess:
            process = context.Process(target=self.work, args=(number,))
            process.start()
            return process

        running = {number: start(number) for number in range(1, self.size + 1)}
        codes: list[int] = []
        warned = False

        def look() -> float | None:
            nonlocal warned
            for number, process in list(running.items()):
                code = process.exitcode
                if code is None:
                    continue
                del running[number]
                if code < 0 and self.replacements and not stop():
                    self.replacements -= 1
                    running[number] = start(number)
                else:
                    codes.append(code)
            if stop() and not warned:
                warned = True
                for process in running.values():
                    process.terminate()
            return SECONDS if running else None

        try:
            watch(look)
        finally:
            for process in running.values():
                process.terminate()
        return codes
