"""A web server of files that misbehaves as told."""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Page:
    """A file to serve.

    Attributes:
        data: its content.
        faults: what goes wrong, one for each request, then nothing: `cut` (fewer bytes than promised), `reset`,
            `stall`, a status such as `500`, `shifted` (another range than asked for).
        ranges: whether `Range` is heeded.
        tag: strong ETag.
        length: whether `Content-Length` is sent.
        after_cut: bytes that come before a fault.
    """

    data: bytes
    faults: list[str] = field(default_factory=list)
    ranges: bool = True
    tag: str = '"one"'
    length: bool = True
    after_cut: int = 1000


class Server(ThreadingHTTPServer):
    """Serves `pages`; `asked` holds path and Range header of each request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pages: dict[str, Page] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.closing = threading.Event()

    def add(self, path: str, data: bytes, *faults: str, **options: Any) -> str:
        """Serve `data` at `path`; its address."""
        self.pages[path] = Page(data, list(faults), **options)
        return self.url(path)

    def url(self, path: str) -> str:
        """The address of a path."""
        return f"http://127.0.0.1:{self.server_port}{path}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def do_HEAD(self) -> None:
        """State the size of a file, where the server states any."""
        page = self.server.pages.get(self.path.partition("?")[0])
        self.send_response(404 if page is None else 200)
        if page is not None and page.length:
            self.send_header("Content-Length", str(len(page.data)))
        self.end_headers()

    def do_GET(self) -> None:
        """Serve a file, or the next fault of its list."""
        path = self.path.partition("?")[0]
        self.server.asked.append((path, self.headers.get("Range")))
        page = self.server.pages.get(path)
        fault = page.faults.pop(0) if page is not None and page.faults else ""
        if page is None or fault.isdecimal():
            self._empty(int(fault) if fault else 404)
            return
        start = self._start(page)
        if start is not None and start >= len(page.data):
            self._empty(416, f"bytes */{len(page.data)}")
            return
        self._send(page, start, fault)

    def _start(self, page: Page) -> int | None:
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        guard = self.headers.get("If-Range")
        return int(match[1]) if match and page.ranges and guard in (None, page.tag) else None

    def _empty(self, status: int, content_range: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        if content_range:
            self.send_header("Content-Range", content_range)
        self.end_headers()

    def _send(self, page: Page, start: int | None, fault: str) -> None:
        data = page.data[start or 0 :]
        self.send_response(200 if start is None else 206)
        if page.tag:
            self.send_header("ETag", page.tag)
        if page.length:
            self.send_header("Content-Length", str(len(data)))
        if start is not None:
            first = start + 7 if fault == "shifted" else start
            self.send_header("Content-Range", f"bytes {first}-{len(page.data) - 1}/{len(page.data)}")
        self.end_headers()
        self.wfile.write(data[: page.after_cut] if fault else data)
        self.wfile.flush()
        self.close_connection = bool(fault) or not page.length
        if fault == "stall":
            self.server.closing.wait(10)
        if fault == "reset":
            time.sleep(0.02)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()


@contextmanager
def running() -> Iterator[Server]:
    """A server in a thread of this process."""
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
