"""A request: where and on how much a command wants trials to run."""

from __future__ import annotations

from dataclasses import dataclass, replace

from local_machine.errors import InputError, SlurmError
from slurm import commands
from slurm.site import Resources, Site, find_site
from sweeps.cli.options import Where
from sweeps.execution.gpu import sharing
from sweeps.execution.gpu.sharing import PerGpu
from sweeps.spec.backend_name import BackendName


@dataclass(frozen=True)
class LaunchRequest:
    """What launch, retry, search and study ask of a backend."""

    backend: BackendName
    """Never AUTO."""
    site: Site
    resources: Resources
    """What a Slurm job of a trial asks for."""
    workers: int | None = None
    per_gpu: PerGpu = None
    retry: bool = False
    """Only trials that failed or were lost."""
    detach: bool = False
    """Return once the trials run."""
    as_json: bool = False
    defined_here: bool = False
    """Whether a user's own file defines the trials."""
    snapshot: bool = False
    """Whether trials run from a snapshot of the code."""
    revision: str | None = None
    """The commit whose code it is; None: the files as they are."""
    stale: bool = False
    """Also what is done, where other code has trained it."""

    @property
    def on_slurm(self) -> bool:
        return self.backend is BackendName.SLURM

    @property
    def ranks(self) -> int:
        """On how many ranks a trial runs."""
        return self.resources.ranks if self.on_slurm else 1

    @property
    def at_once(self) -> int:
        """How many worker processes this machine would run."""
        return sharing.at_once(self.workers, self.per_gpu)


def request_of(where: Where, resources: Resources | None = None, **more: bool) -> LaunchRequest:
    """What a command line asks for. Jobs ask for `resources` where it does not say otherwise;
    `more` are fields of the request. Raises InputError and SlurmError for what cannot be had."""
    backend = _backend(where.on)
    asked = {
        "nodes": where.nodes, "gpus_per_node": where.gpus_per_node, "minutes": where.minutes
    }  # fmt: skip
    given = {key: value for key, value in asked.items() if value is not None}
    return LaunchRequest(
        backend,
        find_site(where.site),
        replace(resources or Resources(), **given),
        where.workers,
        _per_gpu(where.per_gpu, backend),
        snapshot=_snapshot(where, backend, more.get("stale", False)),
        revision=where.code,
        **more,
    )


def _snapshot(where: Where, backend: BackendName, stale: bool) -> bool:
    """Whether trials run from a code snapshot. Raises InputError where --code asks for one that
    there is not."""
    is_here = backend is BackendName.DEBUG
    if where.code is not None and (where.no_snapshot or is_here):
        other = "--on debug" if is_here else "--no-snapshot"
        raise InputError(
            f"--code {where.code} with {other}, which runs the files as they lie",
            "give one of them",
        )
    if where.code is not None and stale:
        raise InputError(
            f"--code {where.code} with --stale, which looks at the files as they are now",
            "check that commit out, and leave --code out",
        )
    return not where.no_snapshot and not is_here


def _backend(name: BackendName) -> BackendName:
    """The backend that a command line means. Raises SlurmError where Slurm is asked for and not
    there."""
    if name is BackendName.AUTO:
        return BackendName.SLURM if commands.available() else BackendName.LOCAL
    if name is BackendName.SLURM and not commands.available():
        raise SlurmError(
            "there is no Slurm here: no sbatch on PATH, or no SLURM_CONF that it could read",
            "run on this machine with --on local, or try a small Slurm of your own: "
            "python -m slurm.dev_cluster up",
        )
    return name


def _per_gpu(word: str | None, backend: BackendName) -> PerGpu:
    """What --per-gpu says. Raises InputError where that cannot be had on the backend."""
    per_gpu = sharing.parse(word)
    if backend is BackendName.SLURM and per_gpu == "auto":
        raise InputError(
            "--per-gpu auto measures this machine's GPU, and the jobs run on others",
            "give a number; on a GPU node, --on local --per-gpu auto says which is best",
        )
    return per_gpu
