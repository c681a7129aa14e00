"""A proxy before a real S3 server that spoils chosen requests, and refuses as real stores do."""

from __future__ import annotations

import base64
import hashlib
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

FAULTS = {
    "error_500": 3,
    "error_503": 3,
    "reset": 3,
    "reset_in_body": 3,
    "truncated": 3,
    "shortened": 3,
    "corrupt": 3,
    "lost_answer": 3,
    "slow": 3,
    "stall": 1,
}
"""Faults and how often they are drawn; a stall costs time."""
STALL_S = 0.4
_PASSED_ON = ("transfer-encoding", "connection", "date", "server", "content-length")


class FaultProxy:
    """Which share of the requests is spoiled, and what happened.

    Attributes:
        rate: share of spoiled requests.
        kinds: the faults to draw from.
        done: how often each fault happened; `passed` counts the others.
        access_key: when set, the only one that is known.
        clock: what its clock is ahead of the true time.
        hold: requests whose method and query hold this text wait for `release`.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream)
        self.rate, self.kinds = 0.0, tuple(FAULTS)
        self.done: Counter[str] = Counter()
        self.access_key = ""
        self.clock = timedelta()
        self.hold = ""
        self.held, self.release = threading.Event(), threading.Event()
        self.url = ""
        self._random = random.Random(0)
        self._lock = threading.Lock()

    def fault_for(self, method: str, path: str) -> str:
        """What happens to the next request."""
        with self._lock:
            (kind,) = self._random.choices(self.kinds, [FAULTS[kind] for kind in self.kinds])
            kind = kind if self._random.random() < self.rate else "passed"
            self.done[kind] += 1
            return kind

    def refusal(self, headers: Any, body: bytes) -> tuple[int, str] | None:
        """Status and code for a request that a store refuses."""
        key = headers.get("Authorization", "").partition("Credential=")[2].partition("/")[0]
        if self.access_key and key != self.access_key:
            return 403, "InvalidAccessKeyId"
        sent = datetime.strptime(headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if abs(datetime.now(UTC) + self.clock - sent) > timedelta(minutes=15):
            return 403, "RequestTimeTooSkewed"
        md5 = headers.get("Content-MD5")
        if md5 and md5 != base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode():
            return 400, "BadDigest"
        return None


def flipped(data: bytes) -> bytes:
    """`data` with one bit changed in its middle."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def _handler(proxy: FaultProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        upstream: HTTPConnection | None = None

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            kind = proxy.fault_for(self.command, self.path)
            if proxy.hold and proxy.hold in f"{self.command} {self.path}":
                proxy.held.set()
                proxy.release.wait(10)
            if kind == "reset":
                return self._cut()
            if kind.startswith("error_"):
                return self._refuse(int(kind.removeprefix("error_")), "InternalError")
            if kind == "slow":
                time.sleep(0.05)
            if kind == "corrupt" and body and self.headers.get("Content-MD5"):
                body = flipped(body)
            refusal = proxy.refusal(self.headers, body)
            if refusal is not None:
                return self._refuse(*refusal)
            status, headers, data = self._forward(body)
            if kind == "lost_answer":
                return self._cut()
            is_object = self.command == "GET" and "?" not in self.path and status in (200, 206)
            if kind == "corrupt" and is_object and data:
                data = flipped(data)
            if kind == "shortened" and is_object:
                data = data[: len(data) // 2]
            return self._answer(status, headers, data, kind)

        def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            if self.upstream is None:
                self.upstream = HTTPConnection(proxy.upstream.hostname or "", proxy.upstream.port, timeout=10)
            headers = {key: value for key, value in self.headers.items() if key.lower() != "expect"}
            self.upstream.request(self.command, self.path, body=body or None, headers=headers)
            response = self.upstream.getresponse()
            return response.status, response.getheaders(), response.read()

        def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes, kind: str) -> None:
            self.send_response_only(status)
            for key, value in headers:
                if key.lower() not in _PASSED_ON:
                    self.send_header(key, value)
            length = dict((key.lower(), value) for key, value in headers).get("content-length", str(len(data)))
            self.send_header("Content-Length", length if self.command == "HEAD" else str(len(data)))
            self.send_header("Date", format_datetime(datetime.now(UTC) + proxy.clock, usegmt=True))
            self.end_headers()
            if self.command == "HEAD":
                return None
            if kind in ("truncated", "reset_in_body", "stall") and data:
                self.wfile.write(data[: len(data) // 2])
                self.wfile.flush()
                if kind == "stall":
                    time.sleep(STALL_S)
                return self._cut()
            self.wfile.write(data)
            return None

        def _refuse(self, status: int, code: str) -> None:
            text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>-</Message></Error>".encode()
            self._answer(status, [("Content-Type", "application/xml")], text, "")

        def _cut(self) -> None:
            self.close_connection = True
            self.connection.close()

        def _safely(self) -> None:
            try:
                self._handle()
            except OSError:
                self.close_connection = True

        def finish(self) -> None:
            if self.upstream is not None:
                self.upstream.close()
            with suppress(OSError):
                super().finish()

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _safely

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@contextmanager
def proxying(upstream: str) -> Iterator[FaultProxy]:
    """A proxy before `upstream` on a free port of this machine."""
    proxy = FaultProxy(upstream)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(proxy))
    server.daemon_threads = True
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.release.set()
        server.shutdown()
        server.server_close()
