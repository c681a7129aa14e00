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

from pipelines.cluster.api import Cluster, Connection

API = "/apis/v2beta1"
TOKEN = "canary-token-5c1e"


class Stub:
    """State of the server: pipelines, versions, experiments, runs, recurring runs, and faults still to come.

    Namespaces and filters count as in the real server: for one user every namespace is the empty one; for several, what
    is looked for without a namespace is what all share.
    """

    def __init__(self, multi_user: bool = False, needs_namespace: bool = False, version: str = "2.17.0") -> None:
        self.multi_user, self.needs_namespace, self.version = multi_user, needs_namespace, version
        self.tables: dict[str, dict[str, dict[str, Any]]] = {
            name: {} for name in ("pipelines", "versions", "experiments", "runs", "recurringruns")
        }
        self.requests: list[tuple[str, str, str | None]] = []
        self.faults: list[int | str] = []
        self.said = "made to fail"
        self.unwell = False  # whether /healthz fails as well
        self.states = ["RUNNING", "SUCCEEDED"]
        self.nodes = ["plan"]
        self.hang_s = 2.0
        self.url = ""
        self._ids = itertools.count(1)

    def new(self, table: str, **fields: Any) -> dict[str, Any]:
        identity = f"{table}-{next(self._ids)}"
        self.tables[table][identity] = fields
        return {**fields, "id": identity}

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/healthz":
            return 200, {"tag_name": self.version, "multi_user": self.multi_user, "pipeline_store": "database"}
        asked = query.get("namespace", [""])[0]
        namespace = (asked or body.get("namespace", "")) if self.multi_user else ""
        if path in ("/pipelines", "/pipelines/upload") and self.multi_user and self.needs_namespace and not namespace:
            return 400, {"error": "Namespace is required for pipeline operations"}
        if path.startswith("/pipelines/upload"):
            return self._upload(path, query, namespace)
        match = re.fullmatch(r"/pipelines/([^/]+)/versions", path)
        if match:
            versions = {k: v for k, v in self.tables["versions"].items() if v["pipeline_id"] == match[1]}
            return self._listed("pipeline_versions", "pipeline_version_id", versions, query)
        if path == "/pipelines":
            return self._listed("pipelines", "pipeline_id", self._within("pipelines", namespace), query)
        return self._rest(method, path, query, body, namespace)

    def _within(self, table: str, namespace: str) -> dict[str, dict[str, Any]]:
        return {key: row for key, row in self.tables[table].items() if row.get("namespace", "") == namespace}

    def _listed(
        self, name: str, key: str, rows: dict[str, dict[str, Any]], query: dict[str, list[str]]
    ) -> tuple[int, Any]:
        wanted = json.loads(query.get("filter", ["{}"])[0]).get("predicates", [])
        if any(part["operation"] not in ("EQUALS", 1) or part["key"] != "display_name" for part in wanted):
            return 400, {"error": "invalid filter"}
        found = [
            {key: identity, **row}
            for identity, row in rows.items()
            if all(row["display_name"] == part["stringValue"] for part in wanted)
        ]
        return 200, {name: found[: int(query.get("page_size", ["20"])[0])]}

    def _upload(self, path: str, query: dict[str, list[str]], namespace: str) -> tuple[int, Any]:
        name = query["name"][0]
        if path.endswith("upload_version"):
            identity = query["pipelineid"][0]
            known = [row["display_name"] for row in self.tables["versions"].values() if row["pipeline_id"] == identity]
            if name in known:
                return 409, {"error": "Failed to create a pipeline version"}
            made = self.new("versions", display_name=name, pipeline_id=identity)
            return 200, {"pipeline_version_id": made["id"], **made}
        if name in [row["display_name"] for row in self._within("pipelines", namespace).values()]:
            return 409, {"error": "Failed to create a pipeline and a pipeline version"}
        made = self.new("pipelines", display_name=name, namespace=namespace)
        self.new("versions", display_name=name, pipeline_id=made["id"])  # the first one, named after the pipeline
        return 200, {"pipeline_id": made["id"], "display_name": name}

    def _rest(
        self, method: str, path: str, query: dict[str, list[str]], body: dict[str, Any], namespace: str
    ) -> tuple[int, Any]:
        keys = {"experiments": "experiment_id", "runs": "run_id", "recurringruns": "recurring_run_id"}
        _, table, *rest = path.split("/")
        identity, _, action = (rest[0] if rest else "").partition(":")
        rows, key = self.tables[table], keys[table]
        if not rest:
            experiment = query.get("experiment_id", [body.get("experiment_id", "")])[0]
            if table != "experiments" and experiment:
                namespace = self.tables["experiments"].get(experiment, {}).get("namespace", "")
            if self.multi_user and not namespace:
                return 400, {"error": "An experiment cannot have an empty namespace in multi-user mode"}
            if method == "POST":
                made = self.new(table, **{**body, "namespace": namespace})
                return 200, {key: made["id"], **body}
            found = self._within(table, namespace)
            if experiment:
                found = {name: row for name, row in found.items() if row["experiment_id"] == experiment}
            return self._listed("recurringRuns" if table == "recurringruns" else table, key, found, query)
        if identity not in rows:
            return 404, {"error": f"{identity} not found"}
        if method == "DELETE":
            del rows[identity]
            return 200, {}
        if action:
            rows[identity]["status"] = "ENABLED" if action == "enable" else "DISABLED"
            return 200, {}
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        tasks = [
            {"task_id": f"t{place}", "display_name": name, "state": state} for place, name in enumerate(self.nodes)
        ]
        details = {"task_details": tasks}
        return 200, {key: identity, **rows[identity], "state": state, "run_details": details}


@contextmanager
def serving(tls: ssl.SSLContext | None = None, **mode: Any) -> Iterator[Stub]:
    """The stub on a free port of this machine; `mode` are the arguments of `Stub`."""
    stub = Stub(**mode)

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            parts = urlsplit(self.path)
            data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = json.loads(data) if data[:1] == b"{" else {}
            path = parts.path.removeprefix(API)
            stub.requests.append((self.command, path, self.headers.get("Authorization")))
            fault = stub.faults.pop(0) if stub.faults and (path != "/healthz" or stub.unwell) else None
            if fault == "hang":
                time.sleep(stub.hang_s)
            if fault == "drop":
                self.connection.close()
                return
            status, answer = (
                (fault, {"error": stub.said})
                if isinstance(fault, int)
                else stub.answer(self.command, path, parse_qs(parts.query), body)
            )
            payload = b"<!doctype html><title>Sign in</title>" if fault == "page" else json.dumps(answer).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Type", "text/html" if fault == "page" else "application/json")
                if 300 <= status < 400:
                    self.send_header("Location", f"{stub.url}/dex/auth")
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


def connect(stub: Stub, timeout_s: float = 10.0, **fields: object) -> Cluster:
    """The real client on the stub, with `TOKEN` and three attempts."""
    return Cluster(Connection(stub.url, token=TOKEN, timeout_s=timeout_s, attempts=3, **fields))  # type: ignore[arg-type]
