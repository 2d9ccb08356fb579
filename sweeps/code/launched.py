"""The code of a launch: captured when it begins, written down when it sends something."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from local_machine.code import git, imports, packages, snapshot
from local_machine.files import write_atomic
from sweeps.code import pack, project, revision

FOLDER = "code"
"""In a sweep's folder, where snapshots lie."""
_BOOTSTRAP = Path(__file__).with_name("bootstrap.py")
# What stands in the job's words, and runs of the copy of bootstrap.py nothing but what it was.
_CHECK = """
import hashlib, sys
path, digest = sys.argv[1:3]
try:
    with open(path, "rb") as file:
        content = file.read()
    problem = "" if hashlib.sha256(content).hexdigest() == digest else "is not what was written"
except OSError as error:
    problem = "cannot be read: " + str(error.strerror)
if problem:
    sys.stderr.write("error: " + path + " " + problem + "\\nhelp: launch the sweep again\\n")
    sys.exit(3)
names = {}
exec(compile(content, path, "exec"), names)
names["run"](path, sys.argv[3:])
"""


@dataclass(frozen=True)
class LaunchedCode:
    """What a launch captured, in memory until `keep`."""

    packed: pack.Pack
    content: bytes
    """Of the launch's file: from where the snapshot is, and what is beside it."""
    bootstrap: bytes = _BOOTSTRAP.read_bytes()
    """What unpacks it. Read now: the checkout of this program may be captured, and gone later."""

    @property
    def sha256(self) -> str:
        return self.packed.sha256

    def words(self, sweep: Path) -> tuple[str, ...]:
        """What stands between the interpreter and `-m MODULE` of a process that runs from it."""
        digest = hashlib.sha256(self.bootstrap).hexdigest()
        path = sweep.resolve() / FOLDER / f"bootstrap-{digest}.py"
        launch = hashlib.sha256(self.content).hexdigest()
        return ("-I", "-S", "-c", f"exec({_CHECK!r})", str(path), digest, launch)

    def keep(self, sweep: Path) -> tuple[str, ...]:
        """Write into the sweep's folder what such a process needs; its words. Raises OSError."""
        folder = sweep.resolve() / FOLDER
        self.packed.keep(folder)
        packages.keep(folder)
        words = self.words(sweep)
        launch = folder / f"launch-{words[-1]}.json"
        _keep(Path(words[4]), self.bootstrap)
        _keep(launch, self.content)
        return words


def _keep(path: Path, content: bytes) -> None:
    if not path.exists():
        write_atomic(path, lambda file: file.write(content))


def check_revision(places: Sequence[Path | None], results: Path, at: str) -> None:
    """Raises InputError where the project of the tasks has no such commit."""
    if (found := _project(places, results)) is not None:
        revision.check(found, at)


def _project(places: Sequence[Path | None], results: Path) -> project.Project | None:
    """The one that is captured; None where all is installed, or there are to be no snapshots."""
    if not pack.limit_mb():
        return None
    here, known = Path.cwd(), results.resolve()
    return next((one for place in places if (one := project.find(place, here, known))), None)


def _top(place: Path) -> Path:
    return git.top_of(place.parent) or place.parent


def capture(
    places: Sequence[Path | None],
    results: Path,
    at: str | None = None,
    more: Iterable[Path] = (),
) -> LaunchedCode | None:
    """The code of the tasks, whose packages or files are `places`: its working tree as it is now,
    or as a commit has it; with `more` packages and files that trials run, and what these import, as
    they are now where they lie outside of it. None where it is all installed, or where there are to
    be no snapshots.

    Raises InputError where it is too large or cannot be read.
    """
    found = _project(places, results)
    if found is None:
        return None
    here = Path.cwd()
    if at is None:
        entries = pack.read(found)
    else:
        found, entries = revision.at(found, at)
        pack.check_size(((one.name, len(one.content)) for one in entries), found.root)
    known = {one.name for one in entries}
    for path in dict.fromkeys(one for place in more for one in imports.closure(place, _top(place))):
        inside = path.is_relative_to(found.root)
        name = path.relative_to(found.root).as_posix() if inside else snapshot.outside(path)
        if name not in known and not (inside and at is not None):
            with contextlib.suppress(FileNotFoundError):  # whoever runs it says so
                entries.append(pack.entry(name, path))
    if found.note:
        print(f"note: {found.note}", file=sys.stderr, flush=True)
    packed = pack.packed(entries)
    folder = here.relative_to(found.root).as_posix() if here.is_relative_to(found.root) else None
    linked = found.linked
    if folder not in (None, "."):
        # The working directory is one of the copy, though nothing in it was captured.
        linked = project.apart(found.root, linked, {*found.names, f"{folder}/_"})
    values = {
        "schema_version": 1,
        "snapshot_sha256": packed.sha256,
        "root": str(found.root),
        "name": found.root.name or "project",
        "folder": folder,
        "linked": list(linked),
        "git_commit": found.git_commit,
        "changed": list(found.changed),
    }
    return LaunchedCode(packed, json.dumps(values, indent=1).encode())
