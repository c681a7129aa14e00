"""A chat endpoint on this machine that answers as a test tells it to, however badly."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Send(NamedTuple):
    """What the endpoint does with a request."""

    content: str = ""
    status: int = 200
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()
    hang: bool = False
    drop: bool = False
    drip: bool = False


Behaviour = Callable[[dict[str, Any], int], Send]


class Stub:
    """Counts what it was asked; `behave(request, number)` decides."""

    def __init__(self, behave: Behaviour) -> None:
        self.behave = behave
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.in_flight = self.most_in_flight = 0
        self.lock = threading.Lock()
        self.stop = threading.Event()
        self.url = ""


def facts(request: dict[str, Any]) -> dict[str, Any]:
    """The facts at the end of the user's message."""
    text = request["messages"][-1]["content"]
    return json.loads(text[text.rindex("\n\n{") :])


def envelope(content: str) -> bytes:
    return json.dumps(
        {
            "choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 100, "completion_tokens": 20},
        }
    ).encode()


def zipped(content: str) -> Send:
    return Send(body=gzip.compress(envelope(content)), headers=(("Content-Encoding", "gzip"),))


@contextmanager
def serve(behave: Behaviour) -> Iterator[Stub]:
    stub = Stub(behave)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with stub.lock:
                stub.requests.append(request)
                stub.keys.append(self.headers.get("authorization", ""))
                number = len(stub.requests)
                stub.in_flight += 1
                stub.most_in_flight = max(stub.most_in_flight, stub.in_flight)
            try:
                self.answer(stub.behave(request, number))
            except OSError:
                pass  # the client has gone, as it should for what is too large or too late
            finally:
                with stub.lock:
                    stub.in_flight -= 1

        def answer(self, send: Send) -> None:
            if send.hang:
                stub.stop.wait(5)
                send = send._replace(drop=True)
            if send.drop:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            body = envelope(send.content) if send.body is None else send.body
            self.send_response(send.status)
            self.send_header("Content-Length", str(len(body)))
            for name, value in send.headers:
                self.send_header(name, value)
            self.end_headers()
            if send.drip:
                for byte in body:
                    self.wfile.write(bytes([byte]))
                    stub.stop.wait(0.05)
            else:
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    stub.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        stub.stop.set()
        server.shutdown()
        server.server_close()


def good_reply(request: dict[str, Any]) -> str:
    """A valid reply to any prompt but extraction: captions that differ by request."""
    asked = facts(request)
    label = asked.get("label") or " and ".join(asked["labels"])
    return json.dumps(
        {"captions": [f"a {label} near door number {request['seed']} take {n}" for n in range(asked["count"])]}
    )


def good(request: dict[str, Any], number: int = 0) -> Send:
    """A well-behaved endpoint."""
    if request["response_format"]["json_schema"]["name"] == "extract":
        return Send(json.dumps({"events": ["loud and close"], "scenes": ["a small room"]}))
    return Send(good_reply(request))
