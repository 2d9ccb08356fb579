"""The configuration of a development cluster, as text: slurm.conf, gres.conf, slurmdbd.conf.

Written for Slurm 22.05 (Debian 12).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

CLUSTER = "dev"
ACCOUNT = "dev"
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Shape:
    """What can be chosen about a cluster.

    More CPUs a node than the machine has are fine: Slurm counts them and binds nothing.
    `grace_seconds` is how long a job of partition `gpu` runs on after a job of `high` has leased
    its place; with `preempt_warning` it gets its `sbatch --signal` at the start of that time.
    `enforce_limits` refuses what an association forbids (sacctmgr modify account dev set ...).
    """

    nodes: int = 4
    gpus_per_node: int = 2
    cpus_per_node: int = 2
    max_array_size: int = 1001
    grace_seconds: int = 20
    preempt_warning: bool = True
    enforce_limits: bool = False

    def __str__(self) -> str:
        return (
            f"{self.nodes} nodes of {self.cpus_per_node} CPUs and {self.gpus_per_node} "
            "pretended GPUs"
        )

    @property
    def node_names(self) -> list[str]:
        return [f"n{number}" for number in range(1, self.nodes + 1)]


@dataclass(frozen=True)
class Machine:
    """What the configuration must know of the machine: its short name and its Slurm's version.

    Slurm's daemons listen on every interface, or else on the one that the machine's own name stands
    for. srun does the same, and must be reached from the nodes: so `loopback_name`, that the name
    stands for 127.0.0.1 itself, decides whether they can be kept off the network.
    """

    host: str
    slurm_version: tuple[int, ...]
    loopback_name: bool

    @property
    def bind_line(self) -> str:
        if self.loopback_name:
            return "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny\n"
        return ""


def gpu_files(folder: Path, shape: Shape) -> list[Path]:
    """Every node has the same device files, as every real node has its own /dev/nvidia0."""
    return [folder / "dev" / f"nvidia{index}" for index in range(shape.gpus_per_node)]


def slurm_conf(folder: Path, shape: Shape, ports: dict[str, int], machine: Machine) -> str:
    """slurm.conf of the cluster in `folder`.

    `ports` has one for slurmctld, slurmdbd and each of `shape.node_names`.
    """
    enforce = "AccountingStorageEnforce=associations,limits,qos\n" if shape.enforce_limits else ""
    return f"""\
ClusterName={CLUSTER}
SlurmctldHost={machine.host}({LOOPBACK})
SlurmctldPort={ports["slurmctld"]}
{machine.bind_line}SlurmUser=root
AuthType=auth/munge
# A requeued job waits for its credential to expire, plus a second: by default, two minutes.
AuthInfo=socket={folder}/munge/socket,cred_expire=5

StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.own
SlurmdPidFile={folder}/run/slurmd.%n.own
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
MailProg=/bin/true

ProctrackType=proctrack/linuxproc
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
GresTypes=gpu
SlurmdParameters=config_overrides

AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost={LOOPBACK}
AccountingStoragePort={ports["slurmdbd"]}
# To slurmdbd, AuthInfo does not count: this is its socket, whatever its name says.
AccountingStoragePass={folder}/munge/socket
AccountingStorageTRES=gres/gpu
{enforce}JobAcctGatherType=jobacct_gather/linux

SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
MaxArraySize={shape.max_array_size}
MaxJobCount={max(20_000, 2 * shape.max_array_size)}
KillWait=5
MinJobAge=60
JobRequeue=1
ReturnToService=2
# A dead node is called down after half a minute, not five.
SlurmdTimeout=30
MessageTimeout=20

PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{_preempt_warning(shape, machine)}
{_node_lines(shape, ports, machine)}
PartitionName=gpu Nodes=ALL Default=YES PriorityTier=1 GraceTime={shape.grace_seconds} State=UP
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF State=UP
"""


def _preempt_warning(shape: Shape, machine: Machine) -> str:
    if not shape.preempt_warning:
        return ""
    # Each version refuses the other's word.
    if machine.slurm_version < (23, 2):
        return "SlurmctldParameters=preempt_send_user_signal\n"
    return "PreemptParameters=send_user_signal\n"


def _node_lines(shape: Shape, ports: dict[str, int], machine: Machine) -> str:
    gres = f" Gres=gpu:{shape.gpus_per_node}" if shape.gpus_per_node else ""
    return "".join(
        f"NodeName={name} NodeAddr={LOOPBACK} NodeHostName={machine.host} Port={ports[name]} "
        # Memory is only a bound on what a job may ask for: CR_Core counts cores alone.
        f"CPUs={shape.cpus_per_node} RealMemory=65536{gres}\n"
        for name in shape.node_names
    )


def gres_conf(folder: Path, shape: Shape) -> str:
    """Only device files count as GPUs: for ordinary files CUDA_VISIBLE_DEVICES stays unset."""
    return "".join(f"Name=gpu File={file}\n" for file in gpu_files(folder, shape))


def slurmdbd_conf(folder: Path, ports: dict[str, int], machine: Machine, password: str) -> str:
    return f"""\
DbdHost=localhost
DbdAddr={LOOPBACK}
DbdPort={ports["slurmdbd"]}
{machine.bind_line}SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
PidFile={folder}/run/slurmdbd.own
LogFile={folder}/log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost={LOOPBACK}
StoragePort={ports["mariadbd"]}
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm
"""


def database_sql(password: str) -> str:
    """What MariaDB runs at each start, a statement a line."""
    return f"""\
CREATE DATABASE IF NOT EXISTS slurm;
CREATE USER IF NOT EXISTS 'slurm'@'{LOOPBACK}' IDENTIFIED BY '{password}';
GRANT ALL ON slurm.* TO 'slurm'@'{LOOPBACK}';
"""
