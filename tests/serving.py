"""An HTTP server in this process that serves a folder by ranges, and misbehaves on request."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Fault = Callable[[str, int], Any]
"""(path, how many times it was asked for before) -> None to answer; a status; "die", "cut" or "hang"; or a body."""


class Server(ThreadingHTTPServer):
    """Serves `folder`; `log` holds (path, range, authorization) of each request."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, folder: Path, ranges: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.ranges = folder, ranges
        self.fault: Fault = lambda path, before: None
        self.log: list[tuple[str, str | None, str | None]] = []
        self.asked: dict[str, int] = {}
        self.released = threading.Event()
        self.redirect: tuple[str, str] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that go away are part of these tests."""


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path = self.path.lstrip("/")
        span = self.headers.get("Range")
        self.server.log.append((path, span, self.headers.get("Authorization")))
        before = self.server.asked.get(path, 0)
        self.server.asked[path] = before + 1
        fault = self.server.fault(path, before)
        if self.server.redirect and path.startswith(self.server.redirect[0]):
            self.send_response(302)
            self.send_header("Location", self.server.redirect[1] + path.removeprefix(self.server.redirect[0]))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if fault == "die":
            self.connection.close()
            return
        if fault == "hang":
            self.server.released.wait(60)
            return
        file = self.server.folder / path
        data = fault if isinstance(fault, bytes) else file.read_bytes() if file.is_file() else None
        if isinstance(fault, int) or data is None:
            self._answer(fault if isinstance(fault, int) else 404, b"")
            return
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", span or "") if self.server.ranges else None
        if found is None:
            self._answer(200, data)
            return
        first, last = int(found[1]), min(int(found[2]), len(data) - 1)
        self._answer(206, data[first : last + 1], f"bytes {first}-{last}/{len(data)}", cut=fault == "cut")

    def _answer(self, status: int, data: bytes, span: str | None = None, cut: bool = False) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if span:
            self.send_header("Content-Range", span)
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if cut else data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def serve(folder: Path, ranges: bool = True) -> Iterator[Server]:
    """Yield a server that runs while the block does."""
    with Server(folder, ranges) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            server.shutdown()
            thread.join()
