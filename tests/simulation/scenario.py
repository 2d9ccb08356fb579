"""A scenario: who does what, and what may strike, as a seed draws it; and as a line of text."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields, replace
from random import Random
from typing import Any

from simulation import faults
from simulation.task import trials

COMMANDS = {
    "launch": "sweeps.launch",
    "detached": "sweeps.launch",
    "retry": "sweeps.retry",
    "fresh": "sweeps.retry",
    "gone": "sweeps.retry",
    "cancel": "sweeps.cancel",
    "compact": "sweeps.compact",
    "undo": "sweeps.compact",
    "status": "sweeps.status",
    "report": "analysis.report",
}
# What is begun besides the first launch, and how often.
OTHERS = {
    "launch": 6, "detached": 2, "retry": 2, "fresh": 1, "gone": 2, "cancel": 2, "compact": 2,
    "undo": 1, "status": 3, "report": 2,
}  # fmt: skip


@dataclass(frozen=True)
class Actor:
    """A command that a person types."""

    kind: str
    at: float
    host: int
    sweep: str
    count: int
    workers: int | None
    """Processes or jobs that take trial after trial; None on Slurm: a job a trial."""
    here: bool
    """On this machine, also where there is a Slurm."""

    @property
    def word(self) -> str:
        return COMMANDS[self.kind]


@dataclass(frozen=True)
class Scenario:
    seed: int
    actors: tuple[Actor, ...]
    kinds: tuple[str, ...]
    """Of the faults that may strike."""
    faults: int
    """At most so many strike."""
    skipped: tuple[int, ...] = ()
    """The steps at which none does, though the seed says so."""
    hosts: int = 2
    trials: int = 2
    switchiness: float = 0.2
    slurm: str = ""
    """Whether there is a Slurm, by what it has of accounts: on, late, off; "" for none."""
    minutes: int = 60
    """A job's time limit."""
    nfs: bool = False
    twins: bool = False
    """Whether all hosts have one name."""
    hides: bool = False
    refused: frozenset[str] = frozenset()
    """The trials that fail."""
    seconds: float = 20.0
    """An epoch takes."""
    poll: float = 20.0
    """A launch looks at its trials so often."""
    mutated: str = ""

    @property
    def sweeps(self) -> list[str]:
        return sorted({actor.sweep for actor in self.actors})

    def mutation(self) -> list[AbstractContextManager[Any]]:
        if not self.mutated:
            return []
        from simulation.mutations import MUTATIONS

        return MUTATIONS[self.mutated]()


def crowd(seed: int, random: Random) -> Scenario:
    """A trial is cut off; later several launches want it at the same moment."""
    first = Actor("launch", 0.0, 0, "a", 1, 1, here=True)
    moment = random.uniform(300, 2000)
    others = [replace(first, at=moment + 0.02 * random.random()) for _ in range(3)]
    kinds = random.choice((("crash", "slow"), ("crash", "slow", "kill"), ("stop",)))
    return Scenario(
        seed, (first, *others), kinds, 4, hosts=1, trials=1, switchiness=0.8, seconds=60.0
    )


def compacted(seed: int, random: Random) -> Scenario:
    """Over NFS, one machine compacts what another looks at and wants to run."""
    launch = Actor("launch", 0.0, 0, "a", 2, 1, here=True)
    moment = random.uniform(15, 90)
    more = (
        replace(launch, kind="status", host=1),
        replace(launch, kind="report", host=1, at=15.0),
        replace(launch, kind="compact", at=moment),
        replace(launch, host=1, at=moment + random.uniform(0, 60)),
        replace(launch, kind="undo", at=moment + random.uniform(0, 120)),
    )
    return Scenario(seed, (launch, *more), ("slow",), 2, nfs=True, seconds=2.0)


def given_up(seed: int, random: Random) -> Scenario:
    """Slurm, or a person, takes a machine for gone whose processes live on."""
    on_slurm = random.random() < 0.6
    first = Actor("launch", 0.0, 0, "a", 2, None, here=not on_slurm)
    others = [
        replace(first, kind=random.choice(("gone", "launch")), at=random.uniform(5, 400), host=host)
        for host in (1, 2, 2)
    ]
    kinds = random.choice((("node_lost", "slow"), ("node_lost", "stop_at_rename")))
    actors = tuple(sorted((first, *others), key=lambda actor: actor.at))
    slurm = random.choice(("on", "late")) if on_slurm else ""
    return Scenario(seed, actors, kinds, 16, hosts=3, switchiness=0.5, slurm=slurm, seconds=20.0)


def drawn(seed: int) -> Scenario:
    """The scenario of a seed."""
    random = Random(f"scenario {seed}")
    if seed % 10 == 0:
        return crowd(seed, random)
    if seed % 20 == 5:
        return compacted(seed, random)
    if seed % 20 == 15:
        return given_up(seed, random)
    hosts, count = random.choice((1, 2, 2, 3)), random.choice((1, 2, 3))
    slurm = random.choice(("on", "late", "off")) if random.random() < 0.4 else ""
    workers = random.choice((1, 2, None, None) if slurm else (1, 2))
    actors = [Actor("launch", 0.0, 0, "a", count, workers, here=False)]
    # Many begin at nearly the same moments.
    moments = (0.0, random.uniform(0, 200), random.uniform(0, 2000))
    for _ in range(random.choice((1, 2, 3, 4, 5))):
        kind = random.choices(list(OTHERS), list(OTHERS.values()))[0]
        at = random.choice(moments) + random.choice((0.0, 0.02, 1.0)) * random.random()
        sweep = random.choice("aaab")
        workers = random.choice((1, None)) if slurm else 1
        host, some_of = random.randrange(hosts), random.randint(1, count)
        actors.append(Actor(kind, at, host, sweep, some_of, workers, random.random() < 0.2))
    some = (*faults.PROCESS, *(faults.SLURM if slurm else ()))
    all_kinds = (*some, *faults.HOST, *faults.DISK)
    kinds = random.choice((some, some, (*some, *faults.HOST), all_kinds, ()))
    names = [trial.name for trial in trials()[:count]]
    return Scenario(
        seed,
        tuple(sorted(actors, key=lambda actor: actor.at)),
        kinds,
        random.choice((2, 4, 8, 16)),
        hosts=hosts,
        trials=count,
        switchiness=random.choice((0.02, 0.1, 0.3, 0.8)),
        slurm=slurm,
        minutes=random.choice((3, 10, 60)),
        nfs=hosts > 1 and random.random() < 0.4,
        twins=hosts > 1 and not slurm and random.random() < 0.1,
        hides=not slurm and random.random() < 0.1,
        refused=frozenset(names[:1]) if random.random() < 0.15 else frozenset(),
        seconds=random.choice((2.0, 20.0, 60.0)),
        poll=random.choice((5.0, 20.0, 60.0)),
    )


def without_actor(scenario: Scenario, number: int) -> Scenario:
    actors = tuple(one for at, one in enumerate(scenario.actors) if at != number)
    return replace(scenario, actors=actors)


def as_line(scenario: Scenario) -> str:
    """The whole scenario as JSON, so that what a seed is drawn to may change."""
    values = asdict(scenario) | {"refused": sorted(scenario.refused)}
    return json.dumps({name: one for name, one in values.items() if one != DEFAULTS.get(name)})


def parsed(line: str) -> Scenario:
    """What `as_line` wrote; or a seed, and the name of a mutation behind it."""
    if not line.startswith("{"):
        seed, _, mutated = line.partition(" ")
        return replace(drawn(int(seed)), mutated=mutated)
    values = json.loads(line)
    values["actors"] = tuple(Actor(**one) for one in values["actors"])
    for name in ("kinds", "skipped"):
        values[name] = tuple(values.get(name, ()))
    return Scenario(**values | {"refused": frozenset(values.get("refused", ()))})


DEFAULTS = {one.name: one.default for one in fields(Scenario)}
