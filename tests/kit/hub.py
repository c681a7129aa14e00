"""A server on this machine that speaks as much of the model hub's protocol as its client needs, with faults.

Routes and headers as huggingface_hub 2.4 asks for them: `/api/models/{id}/tree/{commit}` and
`/{id}/resolve/{commit}/{file}`.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass
class Hub:
    """What the server has, and how it fails.

    Attributes:
        files: content by model, commit and name.
        refuse: model to status and error code.
        cut: file to how many of its next answers end after half of what they announced.
        spoil: files of which another content of the same length is sent.
        gated: models whose files want the token; their listings are open, as on the hub.
        token: that gated models want.
        sent: number of answers with content, by file.
    """

    url: str = ""
    files: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    refuse: dict[str, tuple[int, str]] = field(default_factory=dict)
    cut: Counter[str] = field(default_factory=Counter)
    spoil: set[str] = field(default_factory=set)
    gated: set[str] = field(default_factory=set)
    token: str = "hf_right"
    sent: Counter[str] = field(default_factory=Counter)


def _identity(name: str, data: bytes) -> dict[str, object]:
    blob = hashlib.sha1(f"blob {len(data)}\0".encode() + data, usedforsecurity=False).hexdigest()
    entry: dict[str, object] = {"type": "file", "path": name, "size": len(data), "oid": blob}
    if name.endswith((".safetensors", ".bin")):
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
    return entry


def publish(hub: Hub, model: str, commit: str, folder: Path) -> None:
    """Let the server have the files of a folder."""
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    hub.files[model, commit] = {name: (folder / name).read_bytes() for name in names}


@contextmanager
def hub_server() -> Iterator[Hub]:
    """The server on a free port of this machine."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(content=False)

        def do_GET(self) -> None:
            self._answer(content=True)

        def _answer(self, content: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            if found := re.fullmatch(r"/api/models/(\S+)/tree/([0-9a-f]+)", path):
                model, commit, name = *found.groups(), None
            elif found := re.fullmatch(r"/(\S+?)/resolve/([0-9a-f]+)/(.+)", path):
                model, commit, name = found.groups()
            else:
                return self._send(404)
            if model in hub.refuse:
                return self._send(*hub.refuse[model])
            refused = self.headers.get("Authorization") != f"Bearer {hub.token}"
            if name is not None and model in hub.gated and refused:
                return self._send(401, "GatedRepo")
            if not any(key[0] == model for key in hub.files):
                return self._send(404, "RepoNotFound")
            if (model, commit) not in hub.files:
                return self._send(404, "RevisionNotFound")
            files = hub.files[model, commit]
            if name is not None and name not in files:
                return self._send(404, "EntryNotFound")
            if name is None:
                return self._send(200, data=json.dumps([_identity(*item) for item in files.items()]).encode())
            return self._file(name, files[name], commit, content)

        def _send(self, status: int, code: str = "", data: bytes = b"") -> None:
            self.send_response(status)
            if code:
                self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        def _file(self, name: str, data: bytes, commit: str, content: bool) -> None:
            entry = _identity(name, data)
            tag = entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]  # type: ignore[index]
            start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
            body = (data if name not in hub.spoil else data[::-1])[start:]
            self.send_response(206 if start else 200)
            self.send_header("X-Repo-Commit", commit)
            self.send_header("ETag", f'"{tag}"')
            self.send_header("Content-Length", str(len(body)))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.end_headers()
            if not content:
                return
            hub.sent[name] += 1
            if hub.cut[name] > 0:
                hub.cut[name] -= 1
                self.wfile.write(body[: len(body) // 2])
                self.close_connection = True
                return
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
