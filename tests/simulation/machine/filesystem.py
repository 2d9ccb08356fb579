"""The file server: files and folders in memory, and what of them a power cut leaves.

What `fsync` was not called for may be lost. Of files: all that was written since, or the end of it.
Of folders: names are kept by a journal, in the order in which they changed, so that a power cut
loses the last changes, back to the last one of a folder that was synced.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Callable
from random import Random

ROOT = "/sim"
DEVICE = 77


class Node:
    """A file or a folder."""

    def __init__(self, number: int, is_folder: bool, now: int) -> None:
        self.number = number
        self.is_folder = is_folder
        self.data = bytearray()
        self.synced = b""
        """What a power cut leaves for certain of a file."""
        self.names: dict[str, Node] = {}
        self.links = 0
        self.mtime = self.ctime = now
        self.version = 0
        """Of a folder: how often its names have changed."""

    def status(self) -> os.stat_result:
        mode = stat.S_IFDIR | 0o755 if self.is_folder else stat.S_IFREG | 0o644
        links = 2 if self.is_folder else self.links
        seconds = [self.mtime // 10**9, self.mtime // 10**9, self.ctime // 10**9]
        head = (mode, self.number, DEVICE, links, os.getuid(), os.getgid(), len(self.data))
        floats = [self.mtime / 1e9, self.mtime / 1e9, self.ctime / 1e9]
        whole = [self.mtime, self.mtime, self.ctime]
        return os.stat_result((*head, *seconds, *floats, *whole))


class Change:
    """A change of names, which a power cut undoes as a whole."""

    def __init__(self, folders: list[Node], undo: Callable[[], None]) -> None:
        self.folders = folders
        self.undo = undo


class FileServer:
    """The truth; hosts see it through `mount.Mount`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._numbers = itertools.count(100)
        self.root = self._make(is_folder=True)
        self.root.links = 1
        self._journal: list[Change] = []
        self.on_change: Callable[[Node, str, Node | None], None] = lambda folder, name, node: None
        """Called after each change of a name: the folder, the name, and what it now means."""

    def now(self) -> int:
        """Nanoseconds since 1970, by the server's clock, which ticks for each question."""
        return int(self._clock() * 1e9)

    def _make(self, *, is_folder: bool) -> Node:
        return Node(next(self._numbers), is_folder, self.now())

    def touch(self, node: Node) -> None:
        node.ctime = self.now()

    def write(self, node: Node, at: int, data: bytes) -> None:
        if at > len(node.data):
            node.data.extend(b"\0" * (at - len(node.data)))
        node.data[at : at + len(data)] = data
        node.mtime = node.ctime = self.now()

    def truncate(self, node: Node, size: int) -> None:
        del node.data[size:]
        node.mtime = node.ctime = self.now()

    # Names

    def create(self, folder: Node, name: str, *, is_folder: bool = False) -> Node:
        self._alive(folder)
        if name in folder.names:
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        node = self._make(is_folder=is_folder)
        self._set([(folder, name, node)])
        return node

    def link(self, node: Node, folder: Node, name: str) -> None:
        self._alive(folder)
        if name in folder.names:
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        if node.links == 0:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        self._set([(folder, name, node)])
        self.touch(node)

    def rename(self, folder: Node, name: str, target: Node, new: str) -> None:
        self._alive(target)
        node, there = folder.names.get(name), target.names.get(new)
        if node is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        if there is node:
            return
        if there is not None and there.is_folder:
            if not node.is_folder:
                raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
            if there.names:
                raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
        elif there is not None and node.is_folder:
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        self._set([(folder, name, None), (target, new, node)])
        self.touch(node)

    def unlink(self, folder: Node, name: str) -> None:
        node = folder.names.get(name)
        if node is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        if node.is_folder:
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        self._set([(folder, name, None)])

    def rmdir(self, folder: Node, name: str) -> None:
        node = folder.names.get(name)
        if node is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        if not node.is_folder:
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if node.names:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
        self._set([(folder, name, None)])

    def _alive(self, folder: Node) -> None:
        if folder.links == 0:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    def _set(self, changes: list[tuple[Node, str, Node | None]]) -> None:
        before = [(folder, name, folder.names.get(name)) for folder, name, _ in changes]

        def undo() -> None:
            for folder, name, node in reversed(before):
                self._point(folder, name, node)

        for folder, name, node in changes:
            self._point(folder, name, node)
        self._journal.append(Change([folder for folder, _, _ in changes], undo))
        for folder, name, node in changes:
            self.on_change(folder, name, node)

    def _point(self, folder: Node, name: str, node: Node | None) -> None:
        old = folder.names.pop(name, None)
        if old is not None:
            old.links -= 1
            old.ctime = self.now()
        if node is not None:
            folder.names[name] = node
            node.links += 1
        folder.version += 1
        folder.mtime = folder.ctime = self.now()

    # What lasts

    def sync(self, node: Node) -> None:
        if not node.is_folder:
            node.synced = bytes(node.data)
            return
        last = max((at for at, one in enumerate(self._journal) if node in one.folders), default=-1)
        del self._journal[: last + 1]

    def tear(self, node: Node, random: Random) -> None:
        """Lose what was not synced of a file, or some of it."""
        data, synced = bytes(node.data), node.synced
        if data == synced:
            return
        kept = len(synced) if data.startswith(synced) else 0
        left = [synced, data[: random.randint(kept, len(data))], data]
        if not kept:
            left += [b"", b"\0" * len(data)]
        node.data = bytearray(random.choice(left))

    def cut_power(self, random: Random) -> None:
        """Lose what was not synced, or some of it; then everything is on the disk."""
        lost = random.choice((0, len(self._journal), random.randint(0, len(self._journal))))
        for change in reversed(self._journal[len(self._journal) - lost :]):
            change.undo()
        self._journal.clear()
        for node in self.walk(self.root):
            if not node.is_folder:
                self.tear(node, random)
                node.synced = bytes(node.data)

    def walk(self, node: Node) -> list[Node]:
        found = [node]
        for name in sorted(node.names):
            found += self.walk(node.names[name])
        return found

    def find(self, path: str) -> Node | None:
        """What the path means in truth."""
        node: Node | None = self.root
        for part in parts_of(path):
            node = None if node is None else node.names.get(part)
        return node


def parts_of(path: str) -> list[str]:
    """The names below the root."""
    found: list[str] = []
    for part in path[len(ROOT) :].split("/"):
        if part == "..":
            del found[-1:]
        elif part not in ("", "."):
            found.append(part)
    return found
