"""Writing checkpoints while training goes on."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import torch

log = logging.getLogger("sweeps.run")


class Writer:
    """Does the writing of an epoch while a GPU trains the next; on a CPU, which has nothing to
    spare, at once. One epoch's at a time. Leaving its context waits for the last one.

    A ResNet-18's checkpoint takes half a second and a WRN-28-10's two and a half, of epochs that
    take an H100 one and four.
    """

    def __init__(
        self, device: torch.device, *, aside: bool | None = None, constant: Collection[str] = ()
    ) -> None:
        """`constant` names what of a state nobody writes into, so that it need not be copied."""
        self._device = device
        self._constant = constant
        self._aside = device.type == "cuda" if aside is None else aside
        self._threads = ThreadPoolExecutor(1, "checkpoint")
        self._last: Future[None] | None = None

    def __call__(self, state: dict[str, Any], write: Callable[[dict[str, Any]], None]) -> None:
        """Have `write(state)` done, with the tensors as they are now. Raises what the one before
        raised."""
        self.wait()
        if not self._aside:
            write(state)
            return
        import torch
        from torch.utils._pytree import tree_map_only

        moving = {key: value for key, value in state.items() if key not in self._constant}
        copied = tree_map_only(torch.Tensor, torch.clone, moving)
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()
        self._last = self._threads.submit(self._write, {**state, **copied}, write)

    def _write(self, state: dict[str, Any], write: Callable[[dict[str, Any]], None]) -> None:
        import torch

        # On a stream of its own: on the training's, each tensor would wait for all the steps that
        # have been launched by then.
        stream = (
            torch.cuda.stream(torch.cuda.Stream(self._device))  # type: ignore[no-untyped-call]
            if self._device.type == "cuda"
            else contextlib.nullcontext()
        )
        with stream:
            write(state)

    def wait(self) -> None:
        """Until nothing is being written. Raises what the last writing raised."""
        last, self._last = self._last, None
        if last is not None:
            last.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.wait()
        except OSError as error:
            # What ended the training says more.
            if kind is None:
                raise
            log.warning("the last epoch was not written: %s", error)
        finally:
            self._threads.shutdown()
