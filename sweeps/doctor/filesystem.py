"""Whether a folder's filesystem keeps what leases and results stand on: tried, not looked up.

Everything is tried in a scratch folder of its own, which is removed again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from local_machine import clock, processes
from sweeps.doctor.check import Check, failure, ok, warning

MOUNTS = Path("/proc/mounts")
# fmt: off
LOCAL = frozenset((
    "apfs", "btrfs", "devtmpfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "fuseblk", "jfs", "ntfs",
    "ntfs3", "overlay", "ramfs", "reiserfs", "rootfs", "squashfs", "tmpfs", "vfat", "xfs", "zfs",
))
# fmt: on
RENAMES = 100
SLOW_SYNC_SECONDS = 1.0
# A trial in progress holds up to three copies of its weights: 0.4 GB for the largest model here.
LOW_BYTES, NO_BYTES = 10e9, 0.5e9
LOW_FILES, NO_FILES = 10_000, 100
SKEW_SECONDS = 5.0
SECONDS = 30
# What another process finds of a file that this one has locked: 7 for locked.
TRY_LOCK = """
import fcntl, sys
with open(sys.argv[1], "r+b") as file:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit(7)
"""
ELSEWHERE = "keep the results on another filesystem (--results DIR)"


def nearest(folder: Path) -> Path:
    """The folder itself, or where it is still to be made, the nearest one above it."""
    folder = folder.expanduser().resolve()
    return next(path for path in (folder, *folder.parents) if os.path.lexists(path))


@contextlib.contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A folder for trials in `folder`, or above it, that only we can enter; removed at the end.

    Raises OSError where none can be made.
    """
    path = Path(tempfile.mkdtemp(prefix=".doctor-", dir=nearest(folder)))
    try:
        yield path
    finally:
        # Over NFS a file that is still open keeps its folder from going, at first.
        for wait in (0.0, 0.5, 2.0):
            clock.sleep(wait)
            shutil.rmtree(path, ignore_errors=True)
            if not path.exists():
                break


def checks(folder: Path, *, shared: bool) -> Iterator[Check]:
    """All about the folder's filesystem; `shared` says that other machines are to see it."""
    try:
        with scratch(folder) as path:
            here = nearest(folder)
            yield ok("write", f"{here} may be written")
            for name, check in TRIED.items():
                try:
                    yield check(path)
                except OSError as error:
                    yield failure(name, f"{here}: {error.strerror or error}", ELSEWHERE)
            yield from room(path)
            yield kind(here, shared=shared)
    except OSError as error:
        yield failure(
            "write",
            f"{nearest(folder)} cannot be written: {error.strerror or error}",
            "choose a folder that you may write (--results DIR), or correct its permissions",
        )
        return
    if (words := quota()) is not None:
        yield words


def rename(path: Path) -> Check:
    """A reader of a file that is renamed over must find the old or the new one, at any moment."""
    target, sizes, ends = path / "target", set[int](), threading.Event()
    target.write_bytes(b"0" * 1000)

    def read() -> None:
        while not ends.is_set():
            try:
                sizes.add(len(target.read_bytes()))
            except FileNotFoundError:
                sizes.add(-1)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(RENAMES):
            part = path / "part"
            part.write_bytes(b"%d" % (number % 10) * 1000)
            part.replace(target)
    finally:
        ends.set()
        reader.join()
    if sizes - {1000} or (path / "part").exists():
        return failure(
            "rename",
            "renaming over a file is not atomic: a reader found "
            + ("no file" if -1 in sizes else "half a file"),
            ELSEWHERE,
        )
    return ok("rename", f"atomic over an existing file ({RENAMES} times, read meanwhile)")


def link(path: Path) -> Check:
    """Leases are made by link, which must refuse a name that exists."""
    first, second, name = path / "first", path / "second", path / "linked"
    first.touch()
    second.touch()
    try:
        os.link(first, name)
    except OSError as error:
        return failure(
            "hard link", f"none can be made: {error.strerror}", f"leases need them: {ELSEWHERE}"
        )
    try:
        os.link(second, name)
    except FileExistsError:
        return ok("hard link", "made, and refused where the name exists")
    return failure("hard link", "made over an existing name: two could lease a trial", ELSEWHERE)


def exclusive(path: Path) -> Check:
    """open(..., "x") must succeed once."""
    with (path / "exclusive").open("x"):
        pass
    try:
        with (path / "exclusive").open("x"):
            pass
    except FileExistsError:
        return ok("exclusive create", "succeeds once for a name")
    return failure("exclusive create", "succeeded twice for one name", ELSEWHERE)


def sync(path: Path) -> Check:
    """What every write of a result waits for: file and folder on disk."""
    start = clock.monotonic()
    with (path / "synced").open("wb") as file:
        file.write(b"0" * 4096)
        file.flush()
        os.fsync(file.fileno())
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    seconds = clock.monotonic() - start
    found = f"a file and its folder in {1000 * seconds:.0f} ms"
    if seconds > SLOW_SYNC_SECONDS:
        return warning("fsync", found, f"every epoch waits so long twice: {ELSEWHERE}")
    return ok("fsync", found)


def lock(path: Path) -> Check:
    """Another process must be refused: over NFS a second handle of our own would not be."""
    file = path / "locked"
    file.touch()
    todo = "the data cache needs it: export SWEEPS_CACHE=FOLDER if the cache lies here too"
    with file.open("r+b") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return warning("flock", f"not here: {error.strerror}", todo)
        words = [sys.executable, "-I", "-S", "-c", TRY_LOCK, str(file)]
        try:
            code = subprocess.call(words, stderr=subprocess.DEVNULL, timeout=SECONDS)
        except subprocess.TimeoutExpired:
            return warning("flock", f"a second process had no answer in {SECONDS} s", todo)
    if code != 7:
        return warning("flock", "does not keep a second process out", todo)
    return ok("flock", "keeps a second process out")


def file_times(path: Path) -> Check:
    """A resumed trial holds a checkpoint's time, which the server gives, against a lease's."""
    file = path / "stamped"
    before = clock.now()
    file.write_bytes(b"0")
    after, stamp = clock.now(), file.stat().st_mtime
    # A file's time may be as coarse as a tick of the kernel, or of a second.
    skew = stamp - after if stamp > after else min(0.0, stamp - before)
    if abs(skew) > SKEW_SECONDS:
        return warning(
            "file times",
            f"the filesystem's clock is {skew:+.0f} s from this machine's",
            "have the clocks set (NTP): deaths of jobs are counted by these times",
        )
    return ok("file times", f"within {max(1, round(abs(skew)))} s of this machine's clock")


TRIED: dict[str, Callable[[Path], Check]] = {
    "rename": rename,
    "hard link": link,
    "exclusive create": exclusive,
    "fsync": sync,
    "flock": lock,
    "file times": file_times,
}


def room(path: Path) -> Iterator[Check]:
    """Free space and free inodes, as far as this user may use them."""
    told = os.statvfs(path)
    free = told.f_bavail * told.f_frsize
    found = f"{free / 1e9:.1f} GB free of {told.f_blocks * told.f_frsize / 1e9:.0f}"
    yield _grade("space", found, free, LOW_BYTES, NO_BYTES, "a trial of WRN-28-10 takes 0.5 GB")
    if told.f_files:
        found = f"{told.f_favail:,} inodes free of {told.f_files:,}"
        todo = "a trial takes about 10"
        yield _grade("inodes", found, told.f_favail, LOW_FILES, NO_FILES, todo)
    else:
        yield ok("inodes", "made as needed")


def _grade(name: str, found: str, free: float, low: float, none: float, why: str) -> Check:
    if free >= low:
        return ok(name, found)
    return (failure if free < none else warning)(name, found, f"{why}: free some, or {ELSEWHERE}")


def quota() -> Check | None:
    """What the `quota` command says; None where there is no such command, or no quota."""
    if shutil.which("quota") is None:
        return None
    try:
        done = processes.run(
            ["quota", "-s"], capture_output=True, text=True, timeout=SECONDS, check=False,
            stdin=subprocess.DEVNULL, errors="replace",
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return warning("quota", "`quota -s` gives no answer", "ask it by hand")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines() if line.strip()]
    found = "; ".join(lines[-3:]) or " ".join(done.stderr.split())
    if done.returncode:  # its way to say that something is over its limit
        return warning("quota", found or "over a limit", "free some: `quota -s` says which is over")
    return ok("quota", found) if found else None


def kind(folder: Path, *, shared: bool, mounts: Path = MOUNTS) -> Check:
    """Whether other machines can see the folder, by the kind of its filesystem."""
    try:
        point, name = mount(folder, mounts.read_text(errors="replace"))
    except (OSError, LookupError):
        return ok("filesystem", "of a kind that this system does not tell")
    found = f"{name}, mounted at {point}"
    if name not in LOCAL:
        return ok("filesystem", found)
    if shared:
        return warning(
            "filesystem",
            f"{found}: this machine's own, which other nodes do not see",
            "give a results folder that every node sees (--results DIR)",
        )
    return ok("filesystem", f"{found}: this machine's own")


def mount(folder: Path, table: str) -> tuple[str, str]:
    """Mount point and kind of the filesystem that holds the folder, from /proc/mounts' text.

    Raises LookupError where the table has none.
    """
    best: tuple[str, str] | None = None
    for line in table.splitlines():
        _, point, name = [*line.split(" "), "", "", ""][:3]
        # A space in a name stands as \040.
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), point)
        # A later mount on the same point hides the earlier one.
        if point and folder.is_relative_to(point) and (best is None or len(point) >= len(best[0])):
            best = point, name
    if best is None:
        raise LookupError(folder)
    return best
