"""The states that Slurm reports of a job, and what each means for a trial."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class JobState(StrEnum):
    """Slurm's states, and the flags that it shows in their place (its job_state_codes page).

    A word that is not among them makes a state too, shown as it is, and alive: what we do not
    understand must not end a job in our books.
    """

    BOOT_FAIL = "BOOT_FAIL"
    CANCELLED = "CANCELLED"
    COMPLETED = "COMPLETED"
    COMPLETING = "COMPLETING"
    CONFIGURING = "CONFIGURING"
    DEADLINE = "DEADLINE"
    EXPEDITING = "EXPEDITING"
    FAILED = "FAILED"
    LAUNCH_FAILED = "LAUNCH_FAILED"
    NODE_FAIL = "NODE_FAIL"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    PENDING = "PENDING"
    POWER_UP_NODE = "POWER_UP_NODE"
    PREEMPTED = "PREEMPTED"
    RECONFIG_FAIL = "RECONFIG_FAIL"
    REQUEUED = "REQUEUED"
    REQUEUE_FED = "REQUEUE_FED"
    REQUEUE_HOLD = "REQUEUE_HOLD"
    RESIZING = "RESIZING"
    RESV_DEL_HOLD = "RESV_DEL_HOLD"
    REVOKED = "REVOKED"
    RUNNING = "RUNNING"
    SIGNALING = "SIGNALING"
    SPECIAL_EXIT = "SPECIAL_EXIT"
    STAGE_OUT = "STAGE_OUT"
    STOPPED = "STOPPED"
    SUSPENDED = "SUSPENDED"
    TIMEOUT = "TIMEOUT"
    UNKNOWN = "UNKNOWN"
    UPDATE_DB = "UPDATE_DB"

    @classmethod
    def _missing_(cls, value: object) -> JobState:
        state = str.__new__(cls, str(value))
        state._name_, state._value_ = "UNKNOWN", str(value)
        return state

    @property
    def is_queued(self) -> bool:
        """Waits for nodes: pending, held, or on its way back into the queue."""
        return self in QUEUED

    @property
    def is_running(self) -> bool:
        """Holds nodes, whether or not its processes run at this moment."""
        return self in RUNNING

    @property
    def is_over(self) -> bool:
        """Ended, and Slurm will not start it again by itself."""
        return self in OVER

    @property
    def is_alive(self) -> bool:
        """May still run."""
        return not self.is_over


# LAUNCH_FAILED and RECONFIG_FAIL are flags that stand until the job is requeued or gets its last
# state. REVOKED says that a federated job runs on another cluster. None of them is an end.
QUEUED = frozenset(
    {
        JobState.EXPEDITING,
        JobState.LAUNCH_FAILED,
        JobState.PENDING,
        JobState.RECONFIG_FAIL,
        JobState.REQUEUED,
        JobState.REQUEUE_FED,
        JobState.REQUEUE_HOLD,
        JobState.RESV_DEL_HOLD,
        JobState.SPECIAL_EXIT,
    }
)
RUNNING = frozenset(
    {
        JobState.COMPLETING,
        JobState.CONFIGURING,
        JobState.POWER_UP_NODE,
        JobState.RESIZING,
        JobState.RUNNING,
        JobState.SIGNALING,
        JobState.STAGE_OUT,
        JobState.STOPPED,
        JobState.SUSPENDED,
        JobState.UPDATE_DB,
    }
)
OVER = frozenset(
    {
        JobState.BOOT_FAIL,
        JobState.CANCELLED,
        JobState.COMPLETED,
        JobState.DEADLINE,
        JobState.FAILED,
        JobState.NODE_FAIL,
        JobState.OUT_OF_MEMORY,
        JobState.PREEMPTED,
        JobState.TIMEOUT,
    }
)


@dataclass(frozen=True)
class Job:
    """A job, or one task of an array, as Slurm last told of it."""

    id: str
    """As "123", as "123_4" in an array, as "123+1" in a heterogeneous job."""
    state: JobState
    reason: str = ""
    """Why it waits or how it failed, in Slurm's word; empty from accounting."""
    comment: str = ""
    """Empty from accounting, unless the cluster keeps comments (AccountingStoreFlags)."""
    name: str = ""
    exit_code: int | None = None
    """What its batch script ended with; None while it is alive."""
    signal: int | None = None
    """The signal that ended it, 0 for none; None while it is alive."""
    restarts: int | None = None
    """How often it was requeued; None from accounting."""
    nodes: str = ""
    """Slurm's expression, such as "n[1-2]"; empty before it has any."""
    start: float | None = None
    """When it started or is expected to, in seconds since 1970."""
    end: float | None = None
    """When it ended, or must."""
    minutes: int | None = None
    """Its time limit; None for none."""
    submitted: float | None = None
    """When it was sent, or put back into the queue; None from accounting."""
