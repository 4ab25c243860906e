"""An API to press buttons at: a server of its own thread, which remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

TOKEN: Final = "Zk3vQ9x_Lw7Tn2Rb8Yc5Hd1Js6Gf4Pm0a"  # noqa: S105 - of these tests alone
SCHEMA: Final = {
    "type": "object",
    "additionalProperties": False,
    "properties": {"portfolio": {"$ref": "#/$defs/Portfolio"}, "backtest": {"$ref": "#/$defs/Backtest"}},
    "$defs": {
        "Portfolio": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "kill_switch": {"enum": ["active", "reducing", "halted"], "type": "string"},
                "top_k": {"type": "integer", "minimum": 1, "maximum": 1000},
                "target_volatility": {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}]},
                "allow_short": {"type": "boolean"},
            },
        },
        "Backtest": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "strategy": {"$ref": "#/$defs/Strategy"},
                "entry_steps": {"type": "array", "items": {"type": "number"}, "maxItems": 12},
                "fill_at": {"const": "open"},
                "windows": {"type": "array", "items": {"type": "array", "items": {"type": "integer"}}},
            },
        },
        "Strategy": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"entry_z": {"type": "number", "exclusiveMinimum": 0, "description": "Where a trade begins"}},
        },
    },
}
VALUES: Final = {
    "portfolio": {"kill_switch": "active", "top_k": 10, "target_volatility": None, "allow_short": True},
    "backtest": {
        "strategy": {"entry_z": 2.0}, "entry_steps": [0.0, 0.5], "fill_at": "open", "windows": [[2016, 1008]],
    },
}  # fmt: skip


def run_of(id_: str, **what: Any) -> dict[str, Any]:
    """A run as the API tells it."""
    return {
        "id": id_, "pipeline": "short_cycle", "parameters": {}, "state": "running",
        "created_at": "2026-01-01T00:00:00Z", "started_at": "2026-01-01T00:00:01Z", "finished_at": None,
        "position": None, "step": "infer_signals", "progress": {"done": 3, "total": 12}, "cancel_requested": False,
        "kedro_run_id": None, "mlflow_run_id": None, "error": None,
    } | what  # fmt: skip


@dataclass
class StubApi:
    """What the server answers, and what it was asked.

    Parameters
    ----------
    runs
        Newest first.
    posts
        Path, body and idempotency key of every POST.
    token
        What it asks for.
    asked
        Every path that was asked for, with the token or without.
    answers
        Status and problem by path, in place of the usual answer.
    """

    runs: list[dict[str, Any]] = field(default_factory=list)
    posts: list[tuple[str, Any, str | None]] = field(default_factory=list)
    token: str = TOKEN
    asked: list[str] = field(default_factory=list)
    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    url: str = ""
    by_key: dict[str, dict[str, Any]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, path: str) -> tuple[int, Any]:
        if path == "/runs":
            return 200, {"runs": self.runs}
        if path.startswith("/runs/"):
            found = next((run for run in self.runs if run["id"] == path.removeprefix("/runs/")), None)
            return (404, {"detail": "no such run"}) if found is None else (200, found | {"log": ["a line of its log"]})
        if path == "/pipelines":
            named = {"full_cycle": "everything", "short_cycle": "newest bars", "promote": "champions"}
            return 200, {"pipelines": [{"name": k, "description": v, "blocks": []} for k, v in named.items()]}
        if path.startswith("/parameters/"):
            return 200, {"pipeline": path.rsplit("/", 1)[1], "schema": SCHEMA, "values": VALUES}
        return 404, {"detail": "no such route"}

    def post(self, path: str, body: Any, key: str | None) -> tuple[int, Any]:
        with self.lock:
            self.posts.append((path, body, key))
            if path.endswith("/cancel"):
                run = next(run for run in self.runs if path == f"/runs/{run['id']}/cancel")
                run["cancel_requested"] = True
                return 202, run
            if key is None or key not in self.by_key:
                run = run_of(f"run-{len(self.runs)}", pipeline=path.rsplit("/", 1)[1],
                             parameters=(body or {}).get("parameters", {}))  # fmt: skip
                self.runs.insert(0, run)
                self.by_key[key or run["id"]] = run
            return 202, self.by_key[key or run["id"]]


@contextmanager
def serving() -> Iterator[StubApi]:
    """A stub that listens on loopback."""
    stub = StubApi()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

        def _answer(self, status: int, body: Any) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            if 300 <= status < 400:
                self.send_header("Location", body["to"])
            self.end_headers()
            self.wfile.write(data)

        def _asked(self, method: str) -> None:
            path = self.path.split("?")[0]
            stub.asked.append(path)
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "null")
            if self.headers.get("Authorization") != f"Bearer {stub.token}":
                self._answer(401, {"detail": "a token is needed"})
            elif path in stub.answers:
                self._answer(*stub.answers[path])
            elif method == "GET":
                self._answer(*stub.get(path))
            else:
                self._answer(*stub.post(path, body, self.headers.get("Idempotency-Key")))

        def do_GET(self) -> None:
            self._asked("GET")

        def do_POST(self) -> None:
            self._asked("POST")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    stub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
