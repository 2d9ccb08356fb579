"""A commit of a project's repository, in the place of its working tree: `--code REV`."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace

from local_machine.code import git
from local_machine.errors import InputError
from sweeps.code.pack import Entry
from sweeps.code.project import Project, apart, is_under, results_among


def at(project: Project, revision: str) -> tuple[Project, list[Entry]]:
    """The project as a commit has it, and its files; what git ignores is linked as it lies there.

    Raises InputError where git knows no such commit.
    """
    root = project.root
    try:
        commit = _commit(project, revision)
        listed = git.answer(root, root, "ls-tree", "-r", "-z", "--full-tree", commit)
        lines = (one.partition("\t") for one in os.fsdecode(listed).split("\0") if one)
        blobs = [(*head.split(" "), name) for head, _, name in lines]
        left_out = results_among([one[3] for one in blobs], root, root)
        # A submodule is a commit of another repository.
        blobs = [one for one in blobs if one[1] == "blob" and not is_under(one[3], left_out)]
        wanted = "".join(f"{digest}\n" for _, _, digest, _ in blobs).encode()
        answer = git.answer(root, root, "cat-file", "--batch", given=wanted)
    except (OSError, subprocess.SubprocessError) as error:
        raise _unknown(project, revision, error) from None
    entries, start = [], 0
    for mode, _, _, name in blobs:
        end = answer.index(b"\n", start)
        size = int(answer[start:end].rsplit(b" ", 1)[1])
        content = answer[end + 1 : end + 1 + size]
        entries.append(Entry(name, content, mode == "100755", mode == "120000"))
        start = end + 2 + size
    names = tuple(one.name for one in entries)
    linked = apart(root, [*project.linked, *left_out], set(names))
    return replace(project, names=names, linked=linked, git_commit=commit, changed=()), entries


def check(project: Project, revision: str) -> None:
    """Raises InputError where git knows no such commit."""
    try:
        _commit(project, revision)
    except (OSError, subprocess.SubprocessError) as error:
        raise _unknown(project, revision, error) from None


def _commit(project: Project, revision: str) -> str:
    if project.git_commit is None:
        raise OSError("git tracks nothing there")
    asked = ("rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}")
    return git.answer(project.root, project.root, *asked).decode().strip()


def _unknown(project: Project, revision: str, error: Exception) -> InputError:
    return InputError(
        f"--code {revision}: {project.root} has no such commit: {git.said(error)}",
        "name a commit, a branch or a tag of it: git log --oneline",
    )
