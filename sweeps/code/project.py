"""The project of a launch: the folder that its code lies in, and which of its files are captured.

It is the git repository of the task's file: what git tracks, and what it neither tracks nor
ignores. Without git it is the file's folder. Results folders are never part of it.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from local_machine.code import git, imports
from local_machine.code.references import is_installed

# How a results folder is known by the plans in it, and the files that a run of Python leaves.
_PLAN = re.compile(r"(?P<results>.*/)?(?P<sweep>[^/]+)/plans/[0-9a-f]{8}\.json")
_LEFT = re.compile(r"(.*/)?(__pycache__|\.git|[^/]+\.pyc|[^/]+\.part)(/.*)?")
# What nobody means to hand around, though git was not told to ignore it.
_SECRET = re.compile(
    r"(.*/)?(\.env(\..+)?|\.netrc|id_(rsa|dsa|ecdsa|ed25519)|[^/]+\.(pem|key|p12|pfx)|"
    r"credentials(\.json)?|\.pypirc|kaggle\.json)"
)
# Of a folder without git, which may be a home folder.
MOST_FILES = 2_000
_MOST_LINKS = 1_000
_SWEEPS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Project:
    root: Path
    names: tuple[str, ...]
    """The files and links that are captured, by their paths in the project."""
    linked: tuple[str, ...]
    """What lies there and is not captured."""
    git_commit: str | None = None
    changed: tuple[str, ...] = ()
    """The files that differ from the commit."""
    note: str = ""
    """What is left out that a person may miss."""


def find(code: Path | None, here: Path, results: Path) -> Project | None:
    """The project of a task whose package or file is `code`. Of one that is installed, that nobody
    finds, or that is this package's own, it is the repository of the working directory; None where
    there is none."""
    if code is not None and code != _SWEEPS and not is_installed(code):
        top = git.top_of(code.parent)
        found = None if top is None else _of_git(top, code, results)
        return found or _of_folder(code, results)
    top = git.top_of(here)
    return None if top is None else _of_git(top, top, results)


def _of_git(top: Path, owned: Path, results: Path) -> Project | None:
    """None where git does not answer."""
    try:
        listed = sorted(set(_listed(top, owned, "-c", "-o", "--exclude-standard")))
        ignored = _names(
            git.answer(
                top, owned, "ls-files", "-o", "-i", "--exclude-standard", "--directory", "-z"
            )
        )
        commit, changed = _state(top, owned)
    except (OSError, subprocess.SubprocessError):
        return None
    untracked = {one for one in changed if _SECRET.fullmatch(one)} & set(listed)
    return _project(top, owned, results, listed, [*ignored, *untracked], commit, changed)


def _listed(top: Path, owned: Path, *words: str, under: str = "") -> Iterator[str]:
    """The files of a repository, of its submodules and of the repositories in it."""
    for name in _names(git.answer(top, owned, "ls-files", "-z", *words)):
        path = top / name
        if path.is_dir() and not path.is_symlink():
            if (path / ".git").exists():
                yield from _listed(path, path, *words, under=f"{under}{name}/")
        else:
            yield under + name


def _names(answer: bytes) -> list[str]:
    return [one.rstrip("/") for one in os.fsdecode(answer).split("\0") if one]


def _state(top: Path, owned: Path) -> tuple[str | None, tuple[str, ...]]:
    """The commit, and the files that differ from it, new ones included."""
    said = git.answer(
        top, owned, "status", "--porcelain=v2", "--branch", "--untracked-files=all", "-z",
        "--no-renames",
    )  # fmt: skip
    commit, changed = None, []
    for line in os.fsdecode(said).split("\0"):
        if line.startswith("# branch.oid "):
            oid = line.removeprefix("# branch.oid ")
            commit = None if oid == "(initial)" else oid
        elif line.startswith("? "):
            changed.append(line[2:])
        elif line.startswith(("1 ", "u ")):
            changed.append(line.split(" ", 8 if line[0] == "1" else 10)[-1])
    return commit, tuple(sorted(changed))


def _of_folder(code: Path, results: Path) -> Project:
    """Without git: all that lies beside the code or below it, where that is little enough to be a
    project; else the modules that it imports."""
    root = code.parent.parent if code.parent.name == "src" else code.parent
    skipped: list[str] = []
    names: list[str] = []
    for name in _walked(root, skipped):
        names.append(name)
        if len(names) > MOST_FILES:
            break
    else:
        return _project(root, code, results, names, skipped)
    note = (
        f"{root} is not a git repository and has more than {MOST_FILES} files: the code snapshot "
        f"holds {code.name} and the modules that it imports"
    )
    names = [one.relative_to(root).as_posix() for one in imports.closure(code, root)]
    rest = sorted({*os.listdir(root)} - {name.split("/")[0] for name in names})  # noqa: PTH208
    return _project(root, code, results, names, rest, note=note)


def _walked(root: Path, skipped: list[str]) -> Iterator[str]:
    """Hidden folders and virtual environments are skipped."""
    for folder, folders, files in os.walk(root):
        under = Path(folder).relative_to(root)
        for name in list(folders):
            path = Path(folder, name)
            if name[0] == "." or (path / "pyvenv.cfg").exists() or name == "node_modules":
                folders.remove(name)
                skipped.append((under / name).as_posix())
            elif path.is_symlink():
                folders.remove(name)
                yield (under / name).as_posix()
        yield from ((under / name).as_posix() for name in files)


def _project(
    root: Path,
    code: Path,
    results: Path,
    names: Iterable[str],
    ignored: Iterable[str],
    commit: str | None = None,
    changed: tuple[str, ...] = (),
    note: str = "",
) -> Project:
    """Without what is a result, a secret or left over; with the task's own code, whatever git is
    told of it."""
    names = [one for one in names if not _LEFT.fullmatch(one)]
    left_out = results_among(names, results, root)
    secrets = [one for one in ignored if _SECRET.fullmatch(one)]
    kept = [one for one in names if not is_under(one, left_out) and one not in secrets]
    # Of a package's files, git is taken to know all where it knows the first.
    is_known = code.is_dir() and (code / "__init__.py").relative_to(root).as_posix() in kept
    if code != root and not is_known:
        kept += [one.relative_to(root).as_posix() for one in imports.closure(code, root)]
    linked = [one for one in ignored if not _LEFT.fullmatch(one) and not is_under(one, left_out)]
    kept = sorted(dict.fromkeys(kept))
    links = apart(root, [*linked, *left_out], set(kept))
    ours = tuple(one for one in changed if not _LEFT.fullmatch(one) and not is_under(one, left_out))
    return Project(root, tuple(kept), links, commit, ours, note)


def results_among(names: Sequence[str], results: Path, root: Path) -> list[str]:
    """The results folders among the files, and the one of this launch."""
    found = set()
    for name in names:
        if match := _PLAN.fullmatch(name):
            found.add((match["results"] or match["sweep"]).rstrip("/"))
    if results.is_relative_to(root) and results != root:
        found.add(results.relative_to(root).as_posix())
    return sorted(found)


def is_under(name: str, folders: Iterable[str]) -> bool:
    return any(name == one or name.startswith(f"{one}/") for one in folders)


def apart(root: Path, linked: Iterable[str], kept: set[str]) -> tuple[str, ...]:
    """The places to link, those nearest to the root first, where there are too many; of a folder in
    which a captured file lies, those in it."""
    folders = {str(parent) for name in kept for parent in Path(name).parents}

    def places(names: Iterable[str]) -> Iterator[str]:
        for name in names:
            if name in kept or not os.path.lexists(root / name):
                continue
            if name not in folders:
                yield name
            elif (root / name).is_dir():
                inside = sorted(f"{name}/{one}" for one in os.listdir(root / name))  # noqa: PTH208
                yield from places(one for one in inside if not _LEFT.fullmatch(one))

    nearest = sorted(places(linked), key=lambda name: name.count("/"))
    return tuple(sorted(nearest[:_MOST_LINKS]))
