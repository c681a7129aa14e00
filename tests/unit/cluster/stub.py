"""A stub of the Kubeflow Pipelines v2beta1 API, for the real client: keeps what it is told, and fails when asked to."""

from __future__ import annotations

import itertools
import json
import re
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

API = "/apis/v2beta1"


class Stub:
    """State of the server: pipelines, versions, experiments, runs, recurring runs, and faults still to come."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, dict[str, Any]]] = {
            name: {} for name in ("pipelines", "versions", "experiments", "runs", "recurringruns")
        }
        self.requests: list[tuple[str, str, str | None]] = []
        self.faults: list[int | str] = []
        self.states = ["RUNNING", "SUCCEEDED"]
        self.hang_s = 2.0
        self.url = ""
        self._ids = itertools.count(1)

    def new(self, table: str, **fields: Any) -> dict[str, Any]:
        identity = f"{table}-{next(self._ids)}"
        self.tables[table][identity] = fields
        return {**fields, "id": identity}

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/healthz":
            return 200, {"multi_user": False}
        if path.startswith("/pipelines/upload"):
            return self._upload(path, query)
        match = re.fullmatch(r"/pipelines/names/(.+)", path)
        if match:
            return self._named("pipelines", "pipeline_id", match[1])
        match = re.fullmatch(r"/pipelines/([^/]+)/versions", path)
        if match:
            rows = [
                {"pipeline_id": match[1], "pipeline_version_id": key, **value}
                for key, value in self.tables["versions"].items()
                if value["pipeline_id"] == match[1]
            ]
            return 200, {"pipeline_versions": rows}
        if path == "/pipelines":
            return 200, {"pipelines": [{"pipeline_id": k, **v} for k, v in self.tables["pipelines"].items()]}
        return self._rest(method, path, body)

    def _named(self, table: str, key: str, name: str) -> tuple[int, Any]:
        for identity, value in self.tables[table].items():
            if value["display_name"] == name:
                return 200, {key: identity, **value}
        return 404, {"error": "not found"}

    def _upload(self, path: str, query: dict[str, list[str]]) -> tuple[int, Any]:
        name = query["name"][0]
        if path.endswith("upload_version"):
            known = self.tables["versions"].values()
            if any(row["display_name"] == name for row in known):
                return 409, {"error": f"version {name} already exists"}
            made = self.new("versions", display_name=name, pipeline_id=query["pipelineid"][0])
            return 200, {"pipeline_version_id": made["id"], **made}
        if self._named("pipelines", "pipeline_id", name)[0] == 200:
            return 409, {"error": f"pipeline {name} already exists"}
        made = self.new("pipelines", display_name=name)
        return 200, {"pipeline_id": made["id"], "display_name": name}

    def _rest(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        keys = {"experiments": "experiment_id", "runs": "run_id", "recurringruns": "recurring_run_id"}
        _, table, *rest = path.split("/")
        identity, _, action = (rest[0] if rest else "").partition(":")
        rows, key = self.tables[table], keys[table]
        if method == "POST" and not rest:
            made = self.new(table, **body)
            return 200, {key: made["id"], **body}
        if not rest:
            listed = [{key: k, **v} for k, v in rows.items()]
            return 200, {"recurringRuns" if table == "recurringruns" else table: listed}
        if identity not in rows:
            return 404, {"error": f"{identity} not found"}
        if method == "DELETE":
            del rows[identity]
            return 200, {}
        if action:
            rows[identity]["status"] = "ENABLED" if action == "enable" else "DISABLED"
            return 200, {}
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        details = {"task_details": [{"task_id": "t", "display_name": "plan", "state": state}]}
        return 200, {key: identity, **rows[identity], "state": state, "run_details": details}


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Stub]:
    """The stub on a free port of this machine."""
    stub = Stub()

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            parts = urlsplit(self.path)
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = json.loads(data) if data[:1] == b"{" else {}
            path = parts.path.removeprefix(API)
            stub.requests.append((self.command, path, self.headers.get("Authorization")))
            fault = stub.faults.pop(0) if stub.faults and path != "/healthz" else None
            if fault == "hang":
                time.sleep(stub.hang_s)
            if fault == "drop":
                self.connection.close()
                return
            status, answer = (
                (fault, {"error": "made to fail"})
                if isinstance(fault, int)
                else stub.answer(self.command, path, parse_qs(parts.query), body)
            )
            payload = json.dumps(answer).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)
            except OSError:
                pass

        do_GET = do_POST = do_DELETE = _handle

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    stub.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
