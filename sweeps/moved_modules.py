"""Names that modules had in version 0.1, for sweep files and for jobs that it queued."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_loader
from types import CodeType, ModuleType
from typing import Any

MOVED = {
    # what a sweep file imports
    "sweeps.ranges": "sweeps.search_space.distributions",
    "sweeps.scale": "sweeps.spec.scale",
    "sweeps.space": "sweeps.spec.grid",
    "sweeps.stage": "sweeps.study.stages",
    "sweeps.sweep": "sweeps",
    "trainer.architectures": "trainer.models.registry",
    # what a job runs that still waits (`sweeps.job` also as a pickle of submitit's), and what a
    # launch or search starts that has run since
    "sweeps.job": "sweeps.execution.slurm_job",
    "sweeps.pace": "sweeps.execution.gpu.throughput_probe",
    "sweeps.preflight": "sweeps.launching.preflight",
    "sweeps.probe": "sweeps.doctor.node_probe",
    "sweeps.sent": "sweeps.execution.job_entry",
    "sweeps.worker": "sweeps.execution.worker",
}


class _Moved:
    """Finds a module under its old name: the same module, loaded once, also for `python -m`.

    Without the base classes of importlib.abc, which take longer to import than all of typer.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in MOVED:
            return None
        new = find_spec(MOVED[name])
        loader: Any = self
        return spec_from_loader(name, loader, origin=new.origin if new else None)

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = importlib.import_module(MOVED[module.__name__])

    def get_code(self, name: str) -> CodeType | None:
        spec = find_spec(MOVED[name])
        assert spec is not None and spec.loader is not None
        code: CodeType | None = spec.loader.get_code(MOVED[name])  # type: ignore[attr-defined]
        return code


def install() -> None:
    """Before all other finders: one that knows another checkout would find its files."""
    if not any(isinstance(finder, _Moved) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Moved())
