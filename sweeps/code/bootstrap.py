"""What a process runs first that is to run from a code snapshot: it unpacks it, and starts Python
again in it.

    python -I -S -c CHECK bootstrap-SHA256.py SHA256 LAUNCH -m sweeps.execution.job_entry ...

A copy of this file lies beside the snapshot, since the checkout may be gone by then; so it imports
nothing but Python's own modules. LAUNCH is the SHA-256 of the launch's file: what is in a results
folder, others may have written, so each file is compared with the hash by which it was named, back
to the words of the job.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gzip
import hashlib
import io
import json
import os
import shutil
import stat
import sys
import tarfile
from collections.abc import Iterator
from typing import Any, NoReturn

# Unpacked snapshots that no process has used for so long are removed.
OLD_SECONDS = 7 * 86400
START = '''\
"""What Python finds in the project, by the path of an editable install too, it finds in the code
snapshot."""
import importlib.machinery, importlib.util, os, sys
ROOT, TREE, LINKED = {words}
HERE = os.path.dirname(os.path.abspath(__file__))
def found(path):
    if not isinstance(path, str) or not path:
        return path
    name = os.path.relpath(os.path.realpath(path), ROOT)
    is_outside = name.split(os.sep)[0] == os.pardir
    if is_outside or any((name + os.sep).startswith(one + os.sep) for one in LINKED):
        return path
    return os.path.normpath(os.path.join(TREE, name))
sys.path[:] = [found(one) for one in sys.path if os.path.abspath(one) != HERE]
for finder in sys.meta_path:
    module = sys.modules.get(getattr(finder, "__module__", None) or type(finder).__module__)
    mapping = getattr(module, "MAPPING", None)
    if isinstance(mapping, dict):
        mapping.update({{name: found(path) for name, path in mapping.items()}})
spec = importlib.machinery.PathFinder.find_spec("sitecustomize", sys.path)
if spec is not None and spec.loader is not None:
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
'''


class RefusedError(Exception):
    """What is wrong, and what to do."""


def main(code: str, launch: str, words: list[str]) -> NoReturn:
    """Become the process that `words` name, in the snapshot."""
    values = json.loads(checked(os.path.join(code, f"launch-{launch}.json"), launch))
    folder = unpacked(code, launch, values)
    earlier = os.path.join(os.environ.get("SWEEPS_SNAPSHOT", ""), "start")
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = [os.path.join(folder, "start"), *(one for one in given if one not in ("", earlier))]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    os.environ["SWEEPS_SNAPSHOT"] = folder
    if values["folder"] is not None:
        here = os.path.join(folder, "tree", values["name"], values["folder"])
        os.makedirs(here, exist_ok=True)  # nothing in it may have been captured
        os.chdir(here)
        os.environ["PWD"] = os.getcwd()
    os.execv(sys.executable, [sys.executable, *words])


def checked(path: str, digest: str) -> bytes:
    """The content of a file that is named by its hash. Raises RefusedError where it is another."""
    with open(path, "rb") as file:
        content = file.read()
    if hashlib.sha256(content).hexdigest() != digest:
        raise RefusedError(f"{path} is not what the launch wrote", "launch the sweep again")
    return content


def unpacked(code: str, launch: str, values: dict[str, Any]) -> str:
    """The folder with the snapshot, in this node's scratch; one process unpacks it for all."""
    problems = []
    bases = [os.environ.get("SLURM_TMPDIR"), os.environ.get("TMPDIR"), "/tmp", "/var/tmp"]
    for base in dict.fromkeys(one for one in bases if one):
        try:
            home = private(base)
            folder = os.path.join(home, launch[:32])
            with locked(folder) as now:
                clean(home, now)
                unpack(code, values, folder)
            return folder
        except OSError as error:
            problems.append(f"{base}: {error.strerror or error}")
    raise RefusedError(
        "the code snapshot cannot be unpacked on this machine: " + "; ".join(problems),
        "export TMPDIR=FOLDER, one that only you can write",
    )


def private(base: str) -> str:
    """This user's folder for snapshots in `base`. Raises OSError where it is not theirs alone."""
    facts = os.stat(base)
    if facts.st_mode & 0o022 and not facts.st_mode & stat.S_ISVTX:
        raise OSError(errno.EPERM, "others may write it")
    home = os.path.join(base, f"sweeps-code-{os.geteuid()}")
    with contextlib.suppress(FileExistsError):
        os.mkdir(home, 0o700)
    facts = os.lstat(home)
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
        raise OSError(errno.EPERM, f"{home} is not this user's alone")
    return home


@contextlib.contextmanager
def locked(folder: str) -> Iterator[float]:
    """Alone to unpack into the folder; and from now on, for as long as this process or what it
    becomes lives, one of those that use it. What time it is there, in seconds since 1970."""
    use = held(f"{folder}.lock", fcntl.LOCK_SH)
    os.set_inheritable(use, True)
    os.utime(use)
    # A lock of its own: a process that uses the folder keeps nobody from starting beside it.
    alone = held(f"{folder}.unpack", fcntl.LOCK_EX)
    try:
        yield os.fstat(use).st_mtime
    finally:
        os.close(alone)


def held(path: str, how: int) -> int:
    """A lock on a file that is still there when it is held. Raises OSError."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        # Some filesystems cannot: then processes that unpack at once write the same.
        with contextlib.suppress(OSError):
            fcntl.flock(lock, how)
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path).st_ino == os.fstat(lock).st_ino:
                return lock
        os.close(lock)


def clean(home: str, now: float) -> None:
    """Remove what no process has used for long."""
    for name in os.listdir(home):
        path = os.path.join(home, name)
        with contextlib.suppress(OSError):
            if not name.endswith(".lock") or now - os.stat(path).st_mtime < OLD_SECONDS:
                continue
            lock = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path.removesuffix(".lock"), ignore_errors=True)
                for one in (path.removesuffix(".lock") + ".unpack", path):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(one)
            finally:
                os.close(lock)


def unpack(code: str, values: dict[str, Any], folder: str) -> None:
    """Make the folder whole: what cleans a scratch folder may have removed some of its files."""
    listing = os.path.join(folder, "listing.json")
    tree = os.path.join(folder, "tree", values["name"])
    with contextlib.suppress(OSError, ValueError):
        with open(listing) as file:
            sizes = json.load(file)
        if all(os.lstat(os.path.join(tree, name)).st_size == size for name, size in sizes):
            return
    archive = os.path.join(code, values["snapshot_sha256"] + ".tar.gz")
    os.makedirs(tree, exist_ok=True)
    members, links = members_of(archive, values["snapshot_sha256"])
    for one, content in members:
        path = os.path.join(tree, one.name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write(path, content, 0o555 if one.mode & 0o100 else 0o444)
        os.utime(path, (one.mtime, one.mtime))
    # Last, so that no file is written through one.
    links += [(one, os.path.join(values["root"], one)) for one in values["linked"]]
    for name, target in links:
        path = os.path.join(tree, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.symlink(target, path)
    start = os.path.join(folder, "start")
    os.makedirs(start, exist_ok=True)
    words = repr((values["root"], tree, tuple(values["linked"])))
    write(os.path.join(start, "sitecustomize.py"), START.format(words=words).encode(), 0o444)
    write(os.path.join(folder, "launch.json"), json.dumps(values).encode(), 0o444)
    sizes = [(one.name, one.size) for one, _ in members]
    write(listing, json.dumps(sizes).encode(), 0o444)


def members_of(
    archive: str, digest: str
) -> tuple[list[tuple[tarfile.TarInfo, bytes]], list[tuple[str, str]]]:
    """The files, with what they hold, and the links, with what they lead to. Raises RefusedError
    where the archive is not the one of the digest, OSError."""
    with open(archive, "rb") as file:
        packed = file.read()
    try:
        content = gzip.decompress(packed)
    except (OSError, EOFError, ValueError):
        content = b""
    if hashlib.sha256(content).hexdigest() != digest:
        raise RefusedError(f"{archive} is damaged", "launch the sweep again: it writes it again")
    files: list[tuple[tarfile.TarInfo, bytes]] = []
    links: list[tuple[str, str]] = []
    with tarfile.open(fileobj=io.BytesIO(content)) as members:
        for one in members:
            if not is_inside(one.name) or not (one.isreg() or one.issym()):
                raise RefusedError(f"{archive} may not hold {one.name!r}", "launch the sweep again")
            if one.issym():
                links.append((one.name, one.linkname))
            else:
                found = members.extractfile(one)
                files.append((one, found.read() if found else b""))
    return files, links


def is_inside(name: str) -> bool:
    parts = name.split("/")
    return name != "" and not os.path.isabs(name) and not {"", ".", ".."} & set(parts)


def write(path: str, content: bytes, mode: int) -> None:
    """The file, whole or not at all."""
    part = f"{path}.{os.getpid()}.part"
    with open(part, "wb") as file:
        file.write(content)
    os.chmod(part, mode)
    os.replace(part, path)


def run(path: str, words: list[str]) -> NoReturn:
    """As a program: `path` is where this file lies, `words` the launch and what to run."""
    try:
        main(os.path.dirname(path), words[0], words[1:])
    except RefusedError as refused:
        what, advice = refused.args
    except OSError as error:
        what, advice = (
            f"the code snapshot cannot be read: {error}",
            "see that this node has the folder",
        )
    sys.stderr.write(f"error: {what}\nhelp: {advice}\n")
    sys.exit(3)
