"""The server of one page, on loopback, for whoever knows the token in its address.

GET /TOKEN/          the page
GET /TOKEN/events    server-sent events: a line whenever the page is another one
GET /TOKEN/FILE      a file of the report in its folder, such as tables/x.csv
"""

from __future__ import annotations

import errno
import mimetypes
import secrets
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from analysis.live.served_page import served
from analysis.output.publish import listed
from local_machine.errors import EXIT_IO, InputError

LOOPBACK = "127.0.0.1"
# A page of another site may have its own name lead here (DNS rebinding); then it asks by that name.
_NAMES = (LOOPBACK, "localhost")
_BEAT_SECONDS = 15.0  # after so long in silence a word is sent, so that a closed page is noticed


class Server(ThreadingHTTPServer):
    """Serves what was published last; `folder` is where the report's files lie."""

    daemon_threads = True

    def __init__(self, port: int, folder: Path) -> None:
        """Port 0 takes a free one. Raises InputError where the port cannot be had."""
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            raise InputError(
                f"cannot serve on port {port}: {'it is taken' if taken else error.strerror}",
                "choose another one, or --serve alone for any that is free",
                exit_code=EXIT_IO,
            ) from None
        self.folder = folder
        self.token = secrets.token_urlsafe(24)
        self._page = b""
        self._version = 0
        self._changed = threading.Condition()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}/{self.token}/"

    def publish(self, html: str) -> None:
        """Serve this page from now on, and tell those who look at the one before."""
        page = served(html).encode("utf-8", "backslashreplace")
        with self._changed:
            self._page = page
            self._version += 1
            self._changed.notify_all()

    @property
    def page(self) -> bytes:
        with self._changed:
            return self._page

    def wait_for_next(self, version: int) -> int:
        """The version of the page, as soon as it is another one than this; at the latest after a
        while."""
        with self._changed:
            self._changed.wait_for(lambda: self._version != version, _BEAT_SECONDS)
            return self._version

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away is not an error."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = 60
    server_version = "report"
    sys_version = ""

    def do_GET(self) -> None:
        host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        token, slash, rest = self.path.removeprefix("/").partition("/")
        known = secrets.compare_digest(token.encode(), self.server.token.encode())
        if not (known and slash and host in _NAMES):
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"not found\n")
        elif rest == "":
            self._answer(HTTPStatus.OK, "text/html; charset=utf-8", self.server.page)
        elif rest == "events":
            self._events()
        else:
            self._file(unquote(rest))

    def _file(self, name: str) -> None:
        """Only what the report's own list names."""
        try:
            found = name in listed(self.server.folder)
            content = (self.server.folder / name).read_bytes() if found else None
        except (OSError, InputError, ValueError):
            content = None
        if content is None or name.endswith(".html"):
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"not found\n")
        else:
            kind = mimetypes.guess_type(name)[0] or "text/plain"
            self._answer(HTTPStatus.OK, kind, content)

    def _answer(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self._begin(status, kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _begin(self, status: HTTPStatus, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        # The address has the token in it.
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Content-Security-Policy", "frame-ancestors 'none'")

    def _events(self) -> None:
        self._begin(HTTPStatus.OK, "text/event-stream")
        self.end_headers()
        version = -1
        while True:
            now = self.server.wait_for_next(version)
            self.wfile.write(b": still here\n\n" if now == version else b"data: changed\n\n")
            version = now

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal is for what the report says."""
