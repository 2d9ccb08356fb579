"""Limits: what Slurm allows, held against what the site says of it."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field

from local_machine import processes
from local_machine.errors import SlurmError, nearest
from slurm import environment
from slurm.commands import config
from slurm.environment import Child
from slurm.queue import Queue
from slurm.site import Site
from sweeps.doctor.check import Check, failure, ok, warning

SECONDS = 30
# Above every id that Slurm gives (MaxJobId): a question about no job.
NO_JOB = str(2**26 - 1)
# fmt: off
ASSOCIATION = (
    "DefaultAccount", "Cluster", "Account", "Partition", "QOS", "DefaultQOS", "MaxJobs",
    "MaxSubmit", "MaxWall",
)
QUALITY = ("Name", "MaxJobsPU", "MaxSubmitPU", "MaxWall", "GraceTime", "PreemptMode")
# fmt: on
# A job that ended must still be seen by the next look at the queue, every 15 s.
SHORT_MEMORY_SECONDS = 30


@dataclass(frozen=True)
class Limits:
    """What scontrol and sacctmgr say, in Slurm's own words."""

    config: dict[str, str]
    partitions: dict[str, dict[str, str]]
    associations: list[dict[str, str]] = field(default_factory=list)
    """Of this user, on this cluster."""
    qualities: dict[str, dict[str, str]] = field(default_factory=dict)
    unknown: str = ""
    """Why the accounting database told nothing; empty where it did, or where there is none."""

    @classmethod
    def read(cls) -> Limits:
        """Ask Slurm. Raises SlurmError where the controller does not answer."""
        settings = config()
        partitions = parse_partitions(_ask("scontrol", "--all", "--oneliner", "show", "partition"))
        if not settings.get("AccountingStorageType", "").endswith("/slurmdbd"):
            return cls(settings, partitions)
        try:
            mine = parse_table(ASSOCIATION, _ask(*_sacctmgr("user", _user(), "withassoc"),
                                                 f"format={','.join(ASSOCIATION)}"))  # fmt: skip
            told = parse_table(QUALITY, _ask(*_sacctmgr("qos"), f"format={','.join(QUALITY)}"))
        except SlurmError as error:
            return cls(settings, partitions, unknown=error.what)
        name = settings.get("ClusterName", "")
        here = [row for row in mine if row["Cluster"] == name]
        return cls(settings, partitions, here, {row["Name"]: row for row in told})

    def checks(self, site: Site) -> Iterator[Check]:
        """Everything that can be known without a job."""
        yield ok("slurm", f"{self.config['SLURM_VERSION']}, cluster {self._say('ClusterName')}")
        yield self.array(site)
        yield from self.account(site)
        yield self.submits(site)
        for name in self.chosen(site):
            yield self.partition(site, name)
            if name in self.partitions:
                yield self.preemption(site, name)
        yield self.requeue()

    def chosen(self, site: Site) -> list[str]:
        """The partitions that the site's jobs may run in; [""] where there is no default one."""
        if site.partition:
            return site.partition.split(",")
        marked = [name for name, one in self.partitions.items() if one.get("Default") == "YES"]
        return marked or [""]

    def array(self, site: Site) -> Check:
        """Tasks are counted from 0, so that MaxArraySize of them fit."""
        most = max(1, _number(self.config.get("MaxArraySize", "")) or 0)  # 0: no arrays at all
        told = f"MaxArraySize {self._say('MaxArraySize')}"
        found = f"{told}, the site sends {site.max_array_size} tasks at most"
        if site.max_array_size > most:
            todo = f"write max_array_size = {most} into site {site.name!r}"
            return failure("array size", found, f"{todo}: sbatch refuses a longer array")
        return ok("array size", found)

    def account(self, site: Site) -> Iterator[Check]:
        """Whether the user may charge the account, and use the quality of service."""
        if self.unknown or not self.qualities:
            return
        known = sorted({row["Account"] for row in self.associations})
        enforced = self._enforces("associations")
        asked = site.account or "the default account"
        if self._associations(site):
            used = ", ".join(sorted({row["Account"] for row in self._associations(site)}))
            yield ok("account", f"{used}, of {', '.join(known)}")
        elif enforced:
            todo = f"write account = ... into site {site.name!r}, one of: {', '.join(known)}"
            none = "have an administrator add you: sacctmgr add user"
            yield failure("account", f"{_user()} may not charge {asked}", todo if known else none)
        else:
            yield ok("account", f"{_user()} has none for {asked}, and none is asked for")
        allowed = {name for row in self._associations(site) for name in row["QOS"].split(",")}
        if site.qos and site.qos not in allowed & set(self.qualities) and self._enforces("qos"):
            todo = nearest(site.qos, allowed) if any(allowed) else "leave qos out of the site"
            yield failure("qos", f"{_user()} may not use {site.qos}", todo)

    def submits(self, site: Site) -> Check:
        """How many jobs may be queued, and how many of them run."""
        name = "submit limits"
        queued = {"MaxJobCount": _number(self.config.get("MaxJobCount", ""))}
        running: dict[str, int | None] = {}
        if self._enforces("limits"):
            for row in self._associations(site):
                queued[f"account {row['Account']}"] = _number(row["MaxSubmit"])
                running[f"account {row['Account']}"] = _number(row["MaxJobs"])
            for quality in self._qualities(site):
                queued[f"qos {quality['Name']}"] = _number(quality["MaxSubmitPU"])
                running[f"qos {quality['Name']}"] = _number(quality["MaxJobsPU"])
        most, source = _least(queued)
        found = f"{most} jobs queued ({source}), the site sends {site.max_submit} at most"
        if most is None:
            found = f"none is set, the site sends {site.max_submit} at most"
        few, source = _least(running)
        if few is not None:
            found += f"; {few} run at once ({source})"
        if most is not None and site.max_submit > most:
            todo = f"write max_submit = {most} into site {site.name!r}"
            return failure(name, found, f"{todo}: Slurm refuses the jobs beyond")
        if self.unknown:
            found = f"{found}; no others are known: {self.unknown}"
            return warning(name, found, "ask for yours: sacctmgr show assoc user=$USER")
        return ok(name, found)

    def partition(self, site: Site, name: str) -> Check:
        """Whether the partition takes jobs as long as the site's."""
        title = f"partition {name}".strip()
        if name not in self.partitions:
            return failure(
                title,
                "there is no such partition" if name else "the cluster has no default partition",
                f"correct `partition` in site {site.name!r}: {nearest(name, self.partitions)}",
            )
        one = self.partitions[name]
        longest = {"MaxTime": _seconds(one.get("MaxTime", ""))}
        if self._enforces("limits"):
            for row in self._associations(site):
                longest[f"account {row['Account']}"] = _seconds(row["MaxWall"])
            for quality in self._qualities(site):
                longest[f"qos {quality['Name']}"] = _seconds(quality["MaxWall"])
        seconds, source = _least(longest)
        allows = "any time" if seconds is None else f"{seconds // 60} min ({source})"
        found = f"{one.get('State', '?')}, allows {allows}, a job asks for {site.minutes} min"
        if one.get("State") != "UP":
            return failure(title, found, "choose another partition, or wait until it is up: sinfo")
        if seconds is not None and site.minutes * 60 > seconds:
            todo = f"write minutes = {max(1, seconds // 60)} into site {site.name!r}"
            return failure(title, found, f"{todo}: longer jobs are refused, or wait for ever")
        return ok(title, found)

    def preemption(self, site: Site, name: str) -> Check:
        """What becomes of a job whose nodes another one takes, and whether it is told before."""
        title = f"preemption {name}"
        one = self.partitions[name]
        how = self.config.get("PreemptType", "preempt/none")
        if how == "preempt/none":
            return ok(title, "this cluster preempts no job")
        mode, grace = one.get("PreemptMode", "OFF"), _number(one.get("GraceTime", "")) or 0
        if how == "preempt/qos" and (qualities := self._qualities(site)):
            mode = qualities[0]["PreemptMode"].upper()
            grace = _seconds(qualities[0]["GraceTime"]) or 0
        if mode in ("CLUSTER", "", "N/A"):
            mode = self.config.get("PreemptMode", "OFF")
        modes = set(mode.upper().split(","))
        if "OFF" in modes:
            return ok(title, "jobs are not preempted here")
        if "SUSPEND" in modes:
            return ok(title, "a preempted job is stopped, and goes on later")
        if "CANCEL" in modes:
            return warning(
                title,
                f"a preempted job is cancelled, {grace} s after it is told",
                "launch again after it: the trials resume",
            )
        if not grace:
            return warning(
                title,
                "a preempted job is requeued without grace (GraceTime 0)",
                "expect to lose the epoch in progress each time; it resumes from the one before",
            )
        signals = "SIGUSR2 and SIGTERM" if self.warns else "SIGTERM alone"
        return ok(title, f"a preempted job is told by {signals}, and requeued after {grace} s")

    @property
    def warns(self) -> bool:
        """Whether a preempted job gets the signal of its `sbatch --signal`."""
        # Slurm 23.02 moved the word and shortened it.
        old = self.config.get("SlurmctldParameters", "").split(",")
        new = self.config.get("PreemptParameters", "").split(",")
        return "preempt_send_user_signal" in old or "send_user_signal" in new

    def requeue(self) -> Check:
        """Every job here is sent with --requeue, which goes before the cluster's default."""
        default = {"1": "by default", "0": "where a job asks for it, as ours do"}
        setting = self._say("JobRequeue")
        return ok("requeue", f"JobRequeue {setting}: {default.get(setting, 'unknown')}")

    def accounting(self) -> Check:
        """Whether the end of a job can be known once squeue has forgotten it. Asks Slurm."""
        asked = Queue()
        age = _number(self.config.get("MinJobAge", "").partition(" ")[0])
        memory = f"squeue keeps an ended job for {age} s (MinJobAge)"
        try:
            asked.jobs([NO_JOB])
        except SlurmError as error:
            return failure("accounting", error.what, error.help)
        if asked.accounting:
            return ok("accounting", f"sacct works; {memory}")
        todo = "keep a launch or `sweeps.status --watch` running, which sees jobs end"
        if age and age < SHORT_MEMORY_SECONDS:
            todo += "; have MinJobAge raised to 300"
        return warning("accounting", f"{asked.note}; {memory}", todo)

    def _say(self, key: str) -> str:
        return self.config.get(key) or "unknown"

    def _enforces(self, what: str) -> bool:
        words = set(self.config.get("AccountingStorageEnforce", "").lower().split(","))
        return bool(words & {what, "all", "safe"})

    def _associations(self, site: Site) -> list[dict[str, str]]:
        """Those that the site's jobs would be charged to."""
        partitions = {"", *self.chosen(site)}
        return [
            row
            for row in self.associations
            if row["Account"] == (site.account or row["DefaultAccount"])
            and row["Partition"] in partitions
        ]

    def _qualities(self, site: Site) -> list[dict[str, str]]:
        """The quality of service of the job itself, then those of its partitions."""
        names = [site.qos or row["DefaultQOS"] for row in self._associations(site)] or [site.qos]
        names = [name or "normal" for name in names]
        names += [self.partitions.get(name, {}).get("QoS", "") for name in self.chosen(site)]
        return [self.qualities[name] for name in dict.fromkeys(names) if name in self.qualities]


def parse_partitions(text: str) -> dict[str, dict[str, str]]:
    """Partitions by name, from `scontrol --oneliner show partition`."""
    rows = (dict(re.findall(r"(\w+)=(\S*)", line)) for line in text.splitlines())
    return {row["PartitionName"]: row for row in rows if "PartitionName" in row}


def parse_table(columns: tuple[str, ...], text: str) -> list[dict[str, str]]:
    """Rows from `sacctmgr --noheader --parsable2`. Raises SlurmError for what is none."""
    rows = [line.split("|") for line in text.splitlines() if line.strip()]
    for row in rows:
        if len(row) != len(columns):
            raise SlurmError(
                f"sacctmgr printed a line that is not an answer: {'|'.join(row)[:100]!r}",
                "try `sacctmgr show user withassoc` by hand",
            )
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _sacctmgr(*what: str) -> list[str]:
    return ["sacctmgr", "--noheader", "--parsable2", "--readonly", "show", *what]


def _ask(*command: str) -> str:
    try:
        done = processes.run(
            command, capture_output=True, text=True, timeout=SECONDS, check=False,
            stdin=subprocess.DEVNULL, env=environment.built(Child.SLURM), errors="backslashreplace",
        )  # fmt: skip
    except OSError as error:
        raise SlurmError(f"{command[0]} cannot be run: {error.strerror}", "load Slurm") from None
    except subprocess.TimeoutExpired:
        raise SlurmError(
            f"{command[0]} gave no answer in {SECONDS} s", "try again in a minute: scontrol ping"
        ) from None
    if done.returncode:
        words = " ".join((done.stderr or done.stdout).split())[:300]
        raise SlurmError(f"{command[0]} ended with {done.returncode}: {words}", "try it by hand")
    return done.stdout


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _seconds(text: str) -> int | None:
    """Slurm's [DAYS-]HOURS:MINUTES:SECONDS; None for no limit."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", text, re.ASCII)
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _least(limits: dict[str, int | None]) -> tuple[int | None, str]:
    """The tightest limit and who sets it."""
    known = [(limit, source) for source, limit in limits.items() if limit is not None]
    return min(known, default=(None, ""))
