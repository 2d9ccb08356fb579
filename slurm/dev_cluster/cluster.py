"""A real Slurm on this machine, to develop and test against: slurmctld, slurmdbd, several slurmd.

python -m slurm.dev_cluster up|status|down [--nodes 4] [--gpus-per-node 2] [--dir DIR]

All of a cluster lies in one folder, and nothing outside it is touched; several run side by side.
GPUs are pretended: device files that make Slurm count them and set CUDA_VISIBLE_DEVICES.
Partition `high` preempts `gpu`, the default. The nodes' names resolve to nothing.

Seen with Slurm 22.05.8 on Debian 12 and two cores: four idle nodes from nothing in 4 s, in 6 to
11 s when the cores were shared; `down` in 0.4 s. What it shows of Slurm, and may surprise:

- slurmctld writes its queue every few seconds: killed, it forgets jobs submitted since.
- sacct trails squeue by some seconds after slurmctld or slurmdbd was away.
- A preempted job is signalled at once, but slurmctld looks at the end of its grace (or of any time
  limit) only every 30 s; requeued, it starts again 6 s after it was put back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import re
import secrets
import shutil
import signal
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from local_machine import clock, processes
from local_machine.errors import SlurmError
from local_machine.files import matching, read_regular
from slurm.dev_cluster import config
from slurm.dev_cluster import folder as cluster_folder
from slurm.dev_cluster.config import ACCOUNT, CLUSTER, LOOPBACK, Machine, Shape
from slurm.dev_cluster.daemons import Daemon, end_all, environment, system_path

DEFAULT_FOLDER = (
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "slurm-dev-cluster"
)
BOOT_SECONDS = 60.0
# Below the ports that the kernel hands out to connections, so that none is lost before its use.
PORTS = range(10_000, 30_000)

# Which Debian package brings a program, or Slurm's plugin for the database.
PACKAGES = {
    "slurmctld": "slurm-wlm",
    "slurmd": "slurm-wlm",
    "sbatch": "slurm-wlm",
    "slurmdbd": "slurmdbd",
    "munged": "munge",
    "mariadbd": "mariadb-server",
    "mariadb-install-db": "mariadb-server",
}
PLUGIN = ("slurm-wlm/accounting_storage_mysql.so", "slurm-wlm-mysql-plugin")


def missing_packages(path: str | None = None, libraries: Path = Path("/usr/lib")) -> list[str]:
    """The Debian packages that this machine lacks; `path` is like $PATH, with sbin by default."""
    path = system_path() if path is None else path
    found = [package for name, package in PACKAGES.items() if not shutil.which(name, path=path)]
    if not any(matching(libraries, f"*/{PLUGIN[0]}")):
        found.append(PLUGIN[1])
    return list(dict.fromkeys(found))


def require(packages: list[str], user: int) -> None:
    """Raises SlurmError where `packages` are missing, or where `user` is not root."""
    sudo = "sudo " if user else ""
    if packages:
        raise SlurmError(
            f"not installed: {', '.join(packages)}",
            f"{sudo}apt-get install --no-install-recommends -y {' '.join(packages)}",
        )
    if user:
        raise SlurmError(
            "only root can run a cluster: slurmd starts jobs as their users, and the pretended "
            "GPUs are device files (mknod)",
            f"sudo {sys.executable} -m slurm.dev_cluster ...",
        )


class Cluster:
    """The cluster in a folder, running or not; `boot`, `running` and `find` make one."""

    def __init__(self, folder: Path, shape: Shape, ports: dict[str, int]) -> None:
        self.folder = folder
        self.shape = shape
        self.ports = ports

        def daemon(name: str, *command: str, ready: Callable[[], bool]) -> Daemon:
            program = shutil.which(command[0], path=system_path()) or command[0]
            return Daemon(name, [program, *command[1:]], folder, ready)

        def listening(name: str) -> Callable[[], bool]:
            return lambda: _listens(ports[name])

        munge, database = folder / "munge", folder / "database"
        self.daemons = {
            "munged": daemon(
                "munged", "munged", "--foreground", "--force", f"--socket={munge}/socket",
                f"--key-file={munge}/key", f"--pid-file={munge}/pid",
                f"--log-file={folder}/log/munged.log", f"--seed-file={munge}/seed",
                ready=lambda: _answers(munge / "socket"),
            ),
            "mariadbd": daemon(
                "mariadbd", "mariadbd", "--no-defaults", "--user=root", f"--datadir={database}",
                f"--socket={database}/socket", f"--pid-file={database}/pid",
                f"--tmpdir={folder}/run", f"--bind-address={LOOPBACK}",
                f"--port={ports['mariadbd']}", "--skip-name-resolve",
                f"--init-file={folder}/etc/database.sql", "--innodb-buffer-pool-size=64M",
                # A crash may lose the last second: these are accounts of test jobs.
                "--innodb-flush-log-at-trx-commit=0",
                ready=listening("mariadbd"),
            ),
            "slurmdbd": daemon("slurmdbd", "slurmdbd", "-D", ready=listening("slurmdbd")),
            "slurmctld": daemon("slurmctld", "slurmctld", "-D", ready=listening("slurmctld")),
        }  # fmt: skip
        for node in shape.node_names:
            self.daemons[f"slurmd {node}"] = daemon(
                f"slurmd.{node}", "slurmd", "-D", "-N", node, ready=listening(node)
            )

    @property
    def environment(self) -> dict[str, str]:
        """What a command needs to talk to this cluster."""
        return {"SLURM_CONF": str(self.folder / "etc" / "slurm.conf")}

    @property
    def export(self) -> str:
        return "".join(f"export {name}={value}\n" for name, value in self.environment.items())

    def pid(self, daemon: str, node: str | None = None) -> int | None:
        """The pid of `slurmctld`, `slurmdbd`, `mariadbd`, `munged` or a node's `slurmd`."""
        return self._daemon(daemon, node).pid()

    def start(self, daemon: str, node: str | None = None) -> None:
        """Start a daemon that does not run, and wait until it answers."""
        one = self._daemon(daemon, node)
        one.start()
        one.wait_ready(clock.monotonic() + BOOT_SECONDS)

    def kill(self, daemon: str, node: str | None = None, number: int = signal.SIGKILL) -> None:
        """End a daemon, by default as a crash would; jobs run on."""
        self._daemon(daemon, node).kill(number)

    def restart(self, daemon: str, node: str | None = None) -> None:
        """End a daemon as an administrator would, and start it again."""
        self.kill(daemon, node, signal.SIGTERM)
        self.start(daemon, node)

    def command(self, *words: str, check: bool = True) -> str:
        """What a Slurm command prints, asked as root from outside any job."""
        done = processes.run(
            words, env=environment(self.folder), capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            raise SlurmError(
                f"`{' '.join(words)}` says: {done.stderr.strip() or done.stdout.strip()}",
                f"read the logs in {self.folder}/log",
            )
        return done.stdout

    @property
    def alive(self) -> bool:
        """Whether every daemon runs."""
        return all(daemon.pid() is not None for daemon in self.daemons.values())

    def _daemon(self, daemon: str, node: str | None) -> Daemon:
        return self.daemons[daemon if node is None else f"{daemon} {node}"]


def find(folder: Path) -> Cluster | None:
    """The cluster in `folder`, if one was booted there: whole, half or crashed."""
    folder = folder.resolve()
    try:
        state = json.loads(read_regular(folder / cluster_folder.STATE))
        return Cluster(folder, Shape(**state["shape"]), state["ports"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError, KeyError):
        return None  # cut short, or another version's: `up` and `down` can still remove it


def boot(folder: Path, **wanted: Any) -> tuple[Cluster, bool]:
    """The cluster in `folder`, and whether it was already running.

    `wanted` are fields of Shape. What is half booted, or lost a daemon, is removed and booted
    again. Raises SlurmError where something is missing, a cluster of another shape runs there, the
    folder holds something else, or a daemon does not come up; its log then stays.
    """
    require(missing_packages(), os.geteuid())
    folder = folder.resolve()
    cluster_folder.check_name(folder)
    with cluster_folder.locked(folder):
        cluster = find(folder)
        if cluster is not None and _booted(cluster).exists() and cluster.alive:
            other = {k: v for k, v in wanted.items() if getattr(cluster.shape, k) != v}
            if other:
                raise SlurmError(
                    f"a cluster with other settings runs in {folder}: "
                    + ", ".join(f"{key}={getattr(cluster.shape, key)}" for key in other),
                    f"`down --dir {folder}` first, or choose another --dir",
                )
            return cluster, True
        if cluster_folder.is_ours(folder):
            end_all(folder)
            cluster_folder.clear(folder)
        cluster_folder.check_empty(folder)
        shape = Shape(**wanted)
        names = ["mariadbd", "slurmdbd", "slurmctld", *shape.node_names]
        cluster = Cluster(folder, shape, dict(zip(names, _free_ports(len(names)), strict=True)))
        try:
            _write(cluster)
            _start(cluster)
        except BaseException:
            end_all(folder)
            raise
    return cluster, False


def shut(folder: Path) -> bool:
    """End the cluster in `folder` with all that its jobs started, and remove what it wrote.

    False where there was none. Files of others in the folder stay.
    """
    folder = folder.resolve()
    if not cluster_folder.is_ours(folder):
        return False
    require([], os.geteuid())
    with cluster_folder.locked(folder):
        end_all(folder)
        cluster_folder.clear(folder)
        with contextlib.suppress(OSError):  # not empty: what is left is not ours
            folder.rmdir()
    return True


@contextlib.contextmanager
def running(folder: Path, **wanted: Any) -> Iterator[Cluster]:
    """A cluster for a test; `wanted` are fields of Shape. It is gone when the block ends."""
    cluster, _ = boot(folder, **wanted)
    try:
        yield cluster
    finally:
        shut(folder)
        for daemon in cluster.daemons.values():
            daemon.pid()  # collects its end


def _write(cluster: Cluster) -> None:
    folder, shape = cluster.folder, cluster.shape
    password = secrets.token_hex(16)
    # First of all, so that a boot cut short at any later point is known for what it is.
    state = {"shape": dataclasses.asdict(shape), "ports": cluster.ports}
    (folder / cluster_folder.STATE).write_text(json.dumps(state, indent=2) + "\n")
    for name in cluster_folder.FOLDERS:
        (folder / name).mkdir(mode=0o755)
    for node in shape.node_names:
        (folder / "spool" / node).mkdir()
    for file in config.gpu_files(folder, shape):
        os.mknod(file, 0o666 | stat.S_IFCHR, os.makedev(1, 3))  # what /dev/null is
    etc, ports, machine = folder / "etc", cluster.ports, _machine(cluster)
    _secret(folder / "munge" / "key", secrets.token_bytes(128))
    _secret(etc / "database.sql", config.database_sql(password))
    _secret(etc / "slurmdbd.conf", config.slurmdbd_conf(folder, ports, machine, password))
    (etc / "slurm.conf").write_text(config.slurm_conf(folder, shape, ports, machine))
    (etc / "gres.conf").write_text(config.gres_conf(folder, shape))


def _machine(cluster: Cluster) -> Machine:
    name = processes.host_name()
    try:
        loopback_name = socket.gethostbyname(name) == LOOPBACK
    except OSError:
        loopback_name = False
    said = cluster.command("slurmctld", "-V")  # "slurm-wlm 22.05.8"
    version = tuple(int(word) for word in re.findall(r"\d+", said))
    return Machine(name.partition(".")[0], version, loopback_name)


def _secret(path: Path, content: str | bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def _start(cluster: Cluster) -> None:
    folder, daemons = cluster.folder, cluster.daemons
    deadline = clock.monotonic() + BOOT_SECONDS
    daemons["munged"].start()
    _say("database")
    cluster.command(
        "mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={folder}/database",
        "--auth-root-authentication-method=socket", "--skip-test-db", f"--tmpdir={folder}/run",
    )  # fmt: skip
    daemons["mariadbd"].start()
    daemons["munged"].wait_ready(deadline)
    daemons["mariadbd"].wait_ready(deadline)
    _say("accounting")
    daemons["slurmdbd"].start()
    daemons["slurmdbd"].wait_ready(deadline)
    cluster.command("sacctmgr", "-i", "add", "cluster", CLUSTER)
    cluster.command("sacctmgr", "-i", "add", "account", ACCOUNT, f"Cluster={CLUSTER}")
    users = ",".join({"root", os.environ.get("SUDO_USER", "root")})
    cluster.command("sacctmgr", "-i", "add", "user", users, f"Account={ACCOUNT}")
    _say("nodes")
    slurm = [one for name, one in daemons.items() if name.startswith(("slurmctld", "slurmd "))]
    for daemon in slurm:
        daemon.start()
    for daemon in slurm:
        daemon.wait_ready(deadline)
    while (idle := _idle_nodes(cluster)) < cluster.shape.nodes:
        if clock.monotonic() > deadline:
            raise SlurmError(
                f"{idle} of {cluster.shape.nodes} nodes are idle after {BOOT_SECONDS:.0f} s",
                f"read the logs in {folder}/log; `up` again starts from nothing",
            )
        clock.sleep(0.1)
    _booted(cluster).touch()


def _idle_nodes(cluster: Cluster) -> int:
    states = cluster.command("sinfo", "-h", "-N", "-p", "gpu", "-o", "%T", check=False)
    return states.split().count("idle")


def _booted(cluster: Cluster) -> Path:
    return cluster.folder / "run" / "booted"


def _free_ports(count: int) -> list[int]:
    """Ports that nothing listens on. Drawn at random, so that two `up` at once differ."""
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            found.append(port)
        if len(found) == count:
            return found
    raise SlurmError(
        f"no {count} free ports from {PORTS.start} to {PORTS.stop}", "ask for fewer nodes: --nodes"
    )


def _listens(port: int) -> bool:
    """Read from the kernel's tables: a connection would leave an error in the daemon's log."""
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                _, local, _, state = line.split()[:4]
                if state == "0A" and local.endswith(f":{port:04X}"):
                    return True
    return False


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)
