"""A mount: the files as one host sees them, which over NFS is not always as they are.

What a host learned of a name or of a file's attributes it believes for a while, as Linux's NFS
client does: until the folder's attributes are due (3 to 60 s), until an answer of the server shows
that the folder has changed, or until the file that it knows under the name is gone. Opening a file
always asks the server for what is in it. A host that changes a folder itself sees that one again.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from simulation.machine.filesystem import FileServer, Node, parts_of


@dataclass
class Known:
    """What a host knows of a folder."""

    version: int
    until: float
    names: dict[str, Node | None] = field(default_factory=dict)
    listing: list[str] | None = None


class Mount:
    def __init__(
        self, server: FileServer, clock: Callable[[], float], random: Random, longest: float
    ) -> None:
        """`longest` is for how many seconds it may believe what it knows; 0: it always asks."""
        self.server = server
        self._clock = clock
        self._random = random
        self._longest = longest
        self._known: dict[Node, Known] = {}
        self._attributes: dict[Node, tuple[float, os.stat_result]] = {}

    def forget(self) -> None:
        self._known.clear()
        self._attributes.clear()

    def _until(self) -> float:
        return self._clock() + self._random.uniform(min(3.0, self._longest), self._longest)

    def _of(self, folder: Node) -> Known:
        """What is known of the folder, after a question to the server where that is due."""
        known = self._known.get(folder)
        if known is None or known.until <= self._clock():
            if known is None or known.version != folder.version:
                known = self._known[folder] = Known(folder.version, 0.0)
            known.until = self._until()
        return known

    def look_up(self, folder: Node, name: str) -> Node | None:
        if not self._longest:
            return folder.names.get(name)
        known = self._of(folder)
        if name in known.names:
            node = known.names[name]
            if node is None or node.links:
                return node
        node = folder.names.get(name)
        self._answered(folder, known)
        self._of(folder).names[name] = node
        return node

    def _answered(self, folder: Node, known: Known) -> None:
        """The server's answer says which version of the folder there is now."""
        if known.version != folder.version:
            self._known[folder] = Known(folder.version, self._until())

    def listing(self, folder: Node) -> list[str]:
        if not self._longest:
            return list(folder.names)
        known = self._of(folder)
        if known.listing is None:
            self._answered(folder, known)
            known = self._of(folder)
            known.listing = list(folder.names)
        return list(known.listing)

    def changed(self, *folders: Node) -> None:
        """This host has changed the folders: it sees them again."""
        for folder in folders:
            self._known.pop(folder, None)

    def refused(self, folder: Node, name: str) -> None:
        """The server has refused to change the name: the host asks it again what that is."""
        if folder in self._known:
            self._known[folder].names.pop(name, None)

    def status(self, node: Node) -> os.stat_result:
        if not self._longest:
            return node.status()
        until, known = self._attributes.get(node, (0.0, None))
        if known is None or until <= self._clock():
            known = node.status()
            self._attributes[node] = self._until(), known
        return known

    def asked(self, node: Node) -> None:
        """The host has opened or changed the file: it knows its attributes again."""
        self._attributes.pop(node, None)

    # Paths

    def find(self, path: str) -> Node:
        """Raises FileNotFoundError and NotADirectoryError as the system does."""
        node = self.server.root
        for part in parts_of(path):
            found = self._below(node, part, path)
            if found is None:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            node = found
        return node

    def _below(self, node: Node, part: str, path: str) -> Node | None:
        if not node.is_folder:
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return self.look_up(node, part)

    def place(self, path: str) -> tuple[Node, str]:
        """The folder that the path lies in, and its name there."""
        parts = parts_of(path)
        folder = self.find("/sim/" + "/".join(parts[:-1]))
        if not folder.is_folder:
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        return folder, parts[-1]
