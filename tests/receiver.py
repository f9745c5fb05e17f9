"""A receiver as merchants have them: it answers as told and keeps a ledger of each request."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Received:
    """One request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.time)


class Receiver:
    """Answers 200 `ok` unless `answers` holds something else for the next requests.

    An answer is a status, or (status, headers, body). `broken` holds the answers of paths that
    always give theirs, `by_type` those for types of events, `by_id` those for single events.
    `delay` is in seconds; events of the types in `hanging` get no answer before it is closed.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._host = host
        self.ledger: list[Received] = []
        self.answers: list[int | tuple[int, dict[str, str], bytes]] = []
        self.always: int | tuple[int, dict[str, str], bytes] = 200
        self.broken: dict[str, int | tuple[int, dict[str, str], bytes]] = {}
        self.by_type: dict[str, int] = {}
        self.by_id: dict[str, int] = {}
        self.delay = 0.0
        self.hanging: set[str] = set()
        self._closed = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                receiver.ledger.append(
                    Received(self.command, self.path, dict(self.headers.items()), body)
                )
                time.sleep(receiver.delay)
                if receiver.hanging and json.loads(body)["type"] in receiver.hanging:
                    receiver._closed.wait()
                said = receiver.answers.pop(0) if receiver.answers else receiver.always
                said = receiver.broken.get(self.path, said)
                if receiver.by_type:
                    said = receiver.by_type.get(json.loads(body)["type"], said)
                said = receiver.by_id.get(self.headers.get("webhook-id") or "", said)
                status, headers, text = said if isinstance(said, tuple) else (said, {}, b"ok")
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = do_PATCH = answer

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        class Server(ThreadingHTTPServer):
            request_queue_size = 128
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """A sender that was killed is no news."""

        self._server = Server((host, port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def url(self, path: str = "/hook") -> str:
        """The address of a path of it."""
        return f"http://{self._host}:{self.port}{path}"

    def ids(self) -> list[str]:
        """The event ID of each request, in the order in which they came."""
        return [received.headers["webhook-id"] for received in self.ledger]

    def will_answer(self, answers: Iterable[int | tuple[int, dict[str, str], bytes]]) -> None:
        """Set the answers of the next requests."""
        self.answers = list(answers)

    def close(self) -> None:
        """Stop listening."""
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()
