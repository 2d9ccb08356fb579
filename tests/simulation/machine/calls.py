"""The system calls on files beneath /sim, in the place of os.* and open, for the simulation's time.

Each is a step of the scheduler. Paths elsewhere go to the real system, without a step.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from simulation.machine.filesystem import ROOT, Node
from simulation.machine.hosts import Open, Process
from simulation.machine.mount import Mount
from simulation.machine.scheduler import Scheduler

# Above every number that the real system gives.
FIRST_DESCRIPTOR = 1_000_000
_WRITES = ("write", "mkdir", "link", "rename", "create", "utime", "truncate")


def beneath(path: Any) -> str | None:
    """The path as text, where it is ours."""
    if isinstance(path, int):
        return None
    text = os.fspath(path)
    if isinstance(text, bytes):
        return None
    return text if text == ROOT or text.startswith(ROOT + "/") else None


class Calls:
    """The calls, made by whichever process runs, or by the world that looks on."""

    def __init__(self, scheduler: Scheduler, world_mount: Mount) -> None:
        self._scheduler = scheduler
        self._world = Process.of_world(world_mount)
        self._files: dict[int, Open] = {}
        self._next = FIRST_DESCRIPTOR
        self.lost_answer: Callable[[Process, str], bool] = lambda process, what: False
        """Whether the answer to a call that succeeds gets lost on its way."""

    @property
    def process(self) -> Process:
        return self._scheduler.process or self._world

    @property
    def mount(self) -> Mount:
        return self.process.host.mount

    def _call(self, what: str, path: str) -> None:
        # Shorter to read, and the same in each run.
        self._scheduler.call(f"{what} {path.removeprefix(ROOT)}")
        error = self.process.host.disk_error(what in _WRITES, self._scheduler.now)
        if error:
            raise OSError(error, os.strerror(error), path)

    @contextlib.contextmanager
    def _at(self, path: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.filename is None:
                error.filename = path
            raise

    @contextlib.contextmanager
    def _changing(self, *places: tuple[Node, str]) -> Iterator[None]:
        """A change of names that this host asks the server for."""
        try:
            yield
        except OSError:
            for folder, name in places:
                self.mount.refused(folder, name)
            raise
        self.mount.changed(*(folder for folder, _ in places))

    # Files

    def open(self, path: str, flags: int, mode: int = 0o777, **_: Any) -> int:
        with self._at(path):
            creates = bool(flags & os.O_CREAT)
            self._call("create" if creates else "open", path)
            folder, name = self.mount.place(path) if path != ROOT else (self.mount.server.root, "")
            # An exclusive creation is the server's to decide.
            node = self.mount.look_up(folder, name) if name else folder
            if creates and flags & os.O_EXCL:
                node = folder.names.get(name)
            if node is not None and creates and flags & os.O_EXCL:
                raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
            if node is None and creates:
                node = folder.names.get(name)
                if node is None:
                    node = self.mount.server.create(folder, name)
                self.mount.changed(folder)
            if node is None:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
            writes = bool(flags & (os.O_WRONLY | os.O_RDWR))
            if node.is_folder and writes:
                raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
            if flags & os.O_TRUNC and writes:
                self.mount.server.truncate(node, 0)
            self.mount.asked(node)
            self._next += 1
            one = Open(self.process, node, path, writes, bool(flags & os.O_APPEND))
            self._files[self._next] = self.process.files[self._next] = one
            return self._next

    def close(self, descriptor: int) -> None:
        one = self._files.pop(descriptor, None)
        if one is not None:
            one.process.files.pop(descriptor, None)

    def _open(self, descriptor: int) -> Open:
        one = self._files.get(descriptor)
        if one is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return one

    def read(self, descriptor: int, size: int) -> bytes:
        one = self._open(descriptor)
        self._call("read", one.path)
        if one.node.is_folder:
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), one.path)
        data = bytes(one.node.data[one.at : one.at + size])
        one.at += len(data)
        return data

    def write(self, descriptor: int, data: Any) -> int:
        one = self._open(descriptor)
        self._call("write", one.path)
        data = bytes(data)
        at = len(one.node.data) if one.appends else one.at
        self.mount.server.write(one.node, at, data)
        self.mount.asked(one.node)
        one.at = at + len(data)
        return len(data)

    def seek(self, descriptor: int, at: int, whence: int = os.SEEK_SET) -> int:
        one = self._open(descriptor)
        base = {os.SEEK_SET: 0, os.SEEK_CUR: one.at, os.SEEK_END: len(one.node.data)}[whence]
        one.at = max(0, base + at)
        return one.at

    def truncate(self, descriptor: int, size: int) -> None:
        one = self._open(descriptor)
        self._call("truncate", one.path)
        self.mount.server.truncate(one.node, size)
        self.mount.asked(one.node)

    def fsync(self, descriptor: int) -> None:
        one = self._open(descriptor)
        self._call("fsync", one.path)
        self.mount.server.sync(one.node)

    def fstat(self, descriptor: int) -> os.stat_result:
        return self._open(descriptor).node.status()

    # Names

    def stat(self, path: str, **_: Any) -> os.stat_result:
        self._call("stat", path)
        return self.mount.status(self.mount.find(path))

    def listdir(self, path: str = ".") -> list[str]:
        self._call("list", path)
        node = self.mount.find(path)
        if not node.is_folder:
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return self.mount.listing(node)

    def scandir(self, path: Any) -> Listing:
        text = beneath(path)
        assert text is not None
        return Listing([Entry(self, text, name) for name in self.listdir(text)])

    def mkdir(self, path: str, mode: int = 0o777, **_: Any) -> None:
        with self._at(path):
            self._call("mkdir", path)
            folder, name = self.mount.place(path)
            with self._changing((folder, name)):
                self.mount.server.create(folder, name, is_folder=True)

    def rmdir(self, path: str, **_: Any) -> None:
        with self._at(path):
            self._call("rmdir", path)
            folder, name = self.mount.place(path)
            with self._changing((folder, name)):
                self.mount.server.rmdir(folder, name)

    def unlink(self, path: str, **_: Any) -> None:
        with self._at(path):
            self._call("unlink", path)
            folder, name = self.mount.place(path)
            with self._changing((folder, name)):
                self.mount.server.unlink(folder, name)

    def rename(self, path: str, new: str, **_: Any) -> None:
        with self._at(path):
            self._call("rename", f"{path} {new}")
            (folder, name), (target, to) = self.mount.place(path), self.mount.place(new)
            with self._changing((folder, name), (target, to)):
                self.mount.server.rename(folder, name, target, to)
            if self.lost_answer(self.process, "rename"):
                # Asked once more, the server no longer has the old name.
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    def link(self, path: str, new: str, **_: Any) -> None:
        with self._at(path):
            self._call("link", f"{path} {new}")
            node = self.mount.find(path)
            folder, name = self.mount.place(new)
            with self._changing((folder, name)):
                self.mount.server.link(node, folder, name)
            self.mount.asked(node)
            if self.lost_answer(self.process, "link"):
                # Asked once more, the server has the new name already, or says nothing at all.
                code = errno.EEXIST if self._scheduler.steps % 2 else errno.EIO
                raise OSError(code, os.strerror(code))

    def utime(self, path: str, times: Any = None, *, ns: Any = None, **_: Any) -> None:
        self._call("utime", path)
        node = self.mount.find(path)
        if not node.links:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        node.mtime = ns[1] if ns else self.mount.server.now()
        self.mount.server.touch(node)
        self.mount.asked(node)
        # The answer tells that the folder has changed.
        self.mount.changed(node)

    def readlink(self, path: str, **_: Any) -> str:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)

    # Python's own files

    def io_open(
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Callable[[str, int], int] | None = None,
    ) -> Any:
        kind = mode.replace("b", "").replace("t", "")
        if not isinstance(file, int):
            path = beneath(file)
            assert path is not None
            flags = {
                "r": os.O_RDONLY,
                "w": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
                "a": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
                "x": os.O_WRONLY | os.O_CREAT | os.O_EXCL,
                "r+": os.O_RDWR,
            }[kind]
            file = opener(path, flags) if opener else self.open(path, flags)
            if self._open(file).node.is_folder:
                self.close(file)
                raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        raw = RawFile(self, file, kind)
        if buffering == 0:
            return raw
        buffered = (
            io.BufferedRandom(raw)
            if kind == "r+"
            else io.BufferedReader(raw)
            if kind == "r"
            else io.BufferedWriter(raw)
        )
        if "b" in mode:
            return buffered
        return io.TextIOWrapper(buffered, encoding or "utf-8", errors, newline)


class RawFile(io.RawIOBase):
    """An open file, as io.FileIO is."""

    def __init__(self, calls: Calls, descriptor: int, kind: str) -> None:
        self._calls = calls
        self._descriptor = descriptor
        self._kind = kind
        self._process = calls.process

    def readable(self) -> bool:
        return "r" in self._kind

    def writable(self) -> bool:
        return self._kind != "r"

    def seekable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def readinto(self, buffer: Any) -> int:
        data = self._calls.read(self._descriptor, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def write(self, data: Any) -> int:
        # Python empties the buffers of what was killed: that has no effect.
        if not self._process.alive:
            return len(data)
        return self._calls.write(self._descriptor, data)

    def seek(self, at: int, whence: int = os.SEEK_SET) -> int:
        return self._calls.seek(self._descriptor, at, whence)

    def tell(self) -> int:
        return self._calls.seek(self._descriptor, 0, os.SEEK_CUR)

    def truncate(self, size: int | None = None) -> int:
        size = self.tell() if size is None else size
        self._calls.truncate(self._descriptor, size)
        return size

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._calls.close(self._descriptor)


class Entry:
    """As os.DirEntry."""

    def __init__(self, calls: Calls, folder: str, name: str) -> None:
        self.name, self.path = name, f"{folder}/{name}"
        self._calls = calls

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        return self._calls.stat(self.path)

    def _node(self) -> Node | None:
        try:
            return self._calls.mount.find(self.path)
        except OSError:
            return None

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return (node := self._node()) is not None and node.is_folder

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return (node := self._node()) is not None and not node.is_folder

    def is_symlink(self) -> bool:
        return False

    def __fspath__(self) -> str:
        return self.path


class Listing:
    """As the iterator of os.scandir."""

    def __init__(self, entries: list[Entry]) -> None:
        self._entries = iter(entries)

    def __iter__(self) -> Iterator[Entry]:
        return self._entries

    def __next__(self) -> Entry:
        return next(self._entries)

    def __enter__(self) -> Listing:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def close(self) -> None:
        return


def _by_path(real: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
    def call(path: Any = ".", *more: Any, **words: Any) -> Any:
        text = beneath(path)
        if text is None:
            return real(path, *more, **words)
        return ours(text, *more, **words)

    return call


def _by_two_paths(real: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
    def call(path: Any, new: Any, **words: Any) -> Any:
        one, other = beneath(path), beneath(new)
        if one is None or other is None:
            return real(path, new, **words)
        return ours(one, other, **words)

    return call


def _by_descriptor(real: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
    def call(descriptor: Any, *more: Any) -> Any:
        if not isinstance(descriptor, int) or descriptor < FIRST_DESCRIPTOR:
            return real(descriptor, *more)
        return ours(descriptor, *more)

    return call


@contextlib.contextmanager
def in_place(calls: Calls) -> Iterator[None]:
    """The calls in the place of the system's."""
    real_open, real_stat = io.open, os.stat

    def open_any(file: Any, *more: Any, **words: Any) -> Any:
        ours = file >= FIRST_DESCRIPTOR if isinstance(file, int) else beneath(file) is not None
        return (calls.io_open if ours else real_open)(file, *more, **words)

    def stat_any(path: Any, *more: Any, **words: Any) -> Any:
        if isinstance(path, int) and path >= FIRST_DESCRIPTOR:
            return calls.fstat(path)
        text = beneath(path)
        return real_stat(path, *more, **words) if text is None else calls.stat(text)

    with contextlib.ExitStack() as stack:
        put = lambda name, call: stack.enter_context(mock.patch.object(os, name, call))  # noqa: E731
        for name in (
            "open", "listdir", "scandir", "mkdir", "rmdir", "unlink", "utime", "readlink",
        ):  # fmt: skip
            put(name, _by_path(getattr(os, name), getattr(calls, name)))
        put("lstat", _by_path(os.lstat, calls.stat))
        put("remove", _by_path(os.remove, calls.unlink))
        for name, ours in (
            ("link", calls.link), ("rename", calls.rename), ("replace", calls.rename)
        ):  # fmt: skip
            put(name, _by_two_paths(getattr(os, name), ours))
        for name in ("read", "write", "close", "fsync", "fstat"):
            put(name, _by_descriptor(getattr(os, name), getattr(calls, name)))
        put("ftruncate", _by_descriptor(os.ftruncate, calls.truncate))
        put("stat", stat_any)
        stack.enter_context(mock.patch.object(io, "open", open_any))
        stack.enter_context(mock.patch.object(builtins, "open", open_any))
        yield
