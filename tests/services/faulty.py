"""A way to a server that fails on demand: it hangs, refuses, answers with an error, or cuts a request in its middle."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal, Self

Kind = Literal["none", "down", "slow", "403", "503", "reset", "truncate"]

_S3_CODES: Final = {"403": ("403 Forbidden", "AccessDenied"), "503": ("503 Slow Down", "SlowDown")}
_BODY: Final = "<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>by order</Message></Error>"


@dataclass(frozen=True)
class Fault:
    """What goes wrong.

    Parameters
    ----------
    kind
        ``down``: connections are closed; ``slow``: each request waits ``seconds``; ``403`` and ``503``: the answer of
        an S3 server; ``reset``: half of the body goes on, then both connections are reset; ``truncate``: half of
        the answer comes back.
    after
        Requests that pass before the first one that fails.
    methods
        Requests that count; all of them where empty.
    times
        Requests that fail; all from then on where None.
    seconds
        Of ``slow``.
    """

    kind: Kind = "none"
    after: int = 0
    methods: tuple[str, ...] = ()
    times: int | None = None
    seconds: float = 0.5


class FaultyWay:
    """Listens on a port of its own and passes HTTP requests on to a server, byte for byte, unless told otherwise.

    Parameters
    ----------
    port
        The server's.
    """

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._fault, self._seen, self.failed, self.requests = Fault(), 0, 0, 0
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def fail(self, fault: Fault) -> None:
        """From now on."""
        with self._lock:
            self._fault, self._seen, self.failed = fault, 0, 0

    def close(self) -> None:
        """Stop listening."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._connection, args=(client,), daemon=True).start()

    def _connection(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, EOFError):
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.ExitStack() as stack:
                server: socket.socket | None = None
                buffer = bytearray()
                while True:
                    head = _read_head(client, buffer)
                    method = head.split(b" ", 1)[0].decode("ascii", "replace")
                    kind, seconds = self._next(method)
                    if kind == "down":
                        _reset(client)
                        return
                    if kind in _S3_CODES:
                        _answer(client, kind, method)
                        return
                    if kind == "slow":
                        time.sleep(seconds)
                    if server is None:
                        server = stack.enter_context(socket.create_connection(self._target))
                        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    server.sendall(head)
                    if not self._exchange(client, server, head, buffer, kind):
                        return

    def _exchange(
        self, client: socket.socket, server: socket.socket, head: bytes, buffer: bytearray, kind: Kind
    ) -> bool:
        """Pass a request's body on and its answer back; whether the connection can be used again."""
        fields = _fields(head)
        answers = bytearray()
        if fields.get("expect", "").lower() == "100-continue":
            interim = _read_head(server, answers)
            client.sendall(interim)
            if b" 100 " not in interim.split(b"\r\n", 1)[0]:
                return self._answer_back(client, server, interim, answers, head, kind) and False
        length = int(fields.get("content-length", 0))
        if fields.get("transfer-encoding", "").lower() == "chunked":
            return _pipe(client, server, buffer)
        sent, room = 0, length // 2 if kind == "reset" else length
        while sent < room:
            piece = bytes(buffer[: room - sent]) or client.recv(min(65_536, room - sent))
            if not piece:
                return False
            del buffer[: len(piece)]
            server.sendall(piece)
            sent += len(piece)
        if kind == "reset":
            _reset(server)
            _reset(client)
            return False
        answer = _read_head(server, answers)
        if kind != "truncate":
            client.sendall(answer)
        return self._answer_back(client, server, answer, answers, head, kind)

    def _answer_back(
        self, client: socket.socket, server: socket.socket, answer: bytes, buffer: bytearray, head: bytes, kind: Kind
    ) -> bool:
        fields, status = _fields(answer), answer.split(b" ", 2)[1]
        if head.startswith(b"HEAD ") or status in (b"204", b"304"):
            return fields.get("connection", "").lower() != "close"
        if fields.get("transfer-encoding", "").lower() == "chunked":
            if kind == "truncate":
                client.sendall(answer)
            return _pass_chunks(client, server, buffer, cut=kind == "truncate")
        if "content-length" not in fields:
            return _drain(client, server, buffer)
        left = int(fields["content-length"])
        if kind == "truncate":
            client.sendall(answer)
            left //= 2
        while left:
            piece = bytes(buffer[:left]) or server.recv(min(65_536, left))
            if not piece:
                return False
            del buffer[: len(piece)]
            client.sendall(piece)
            left -= len(piece)
        return kind != "truncate" and fields.get("connection", "").lower() != "close"

    def _next(self, method: str) -> tuple[Kind, float]:
        with self._lock:
            self.requests += 1
            fault = self._fault
            if fault.kind == "none" or (fault.methods and method not in fault.methods):
                return "none", 0.0
            self._seen += 1
            if self._seen <= fault.after or (fault.times is not None and self.failed >= fault.times):
                return "none", 0.0
            self.failed += 1
            return fault.kind, fault.seconds


def _read_head(source: socket.socket, buffer: bytearray) -> bytes:
    return _read_until(b"\r\n\r\n", source, buffer)


def _read_until(mark: bytes, source: socket.socket, buffer: bytearray) -> bytes:
    while (end := buffer.find(mark)) < 0:
        _receive(source, buffer)
    return _read(end + len(mark), source, buffer)


def _read(size: int, source: socket.socket, buffer: bytearray) -> bytes:
    while len(buffer) < size:
        _receive(source, buffer)
    found = bytes(buffer[:size])
    del buffer[:size]
    return found


def _receive(source: socket.socket, buffer: bytearray) -> None:
    piece = source.recv(65_536)
    if not piece:
        raise EOFError
    buffer += piece


def _fields(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    return {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines) if value}


def _pipe(client: socket.socket, server: socket.socket, buffer: bytearray) -> bool:
    """What has no length: both directions until one ends."""
    server.sendall(bytes(buffer))
    thread = threading.Thread(target=_drain, args=(server, client, bytearray()), daemon=True)
    thread.start()
    return _drain(client, server, bytearray())


def _pass_chunks(target: socket.socket, source: socket.socket, buffer: bytearray, *, cut: bool) -> bool:
    """A chunked body, whole, or half of its first chunk; whether the connection can be used again."""
    while True:
        line = _read_until(b"\r\n", source, buffer)
        size = int(line.split(b";")[0], 16)
        rest = _read(size + 2, source, buffer) if size else b""
        if cut:
            target.sendall(line + rest[: size // 2])
            return False
        target.sendall(line + rest)
        if not size:
            while (trailer := _read_until(b"\r\n", source, buffer)) != b"\r\n":
                target.sendall(trailer)
            target.sendall(trailer)
            return True


def _drain(target: socket.socket, source: socket.socket, buffer: bytearray) -> bool:
    with contextlib.suppress(OSError):
        target.sendall(bytes(buffer))
        while piece := source.recv(65_536):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
    return False


def _answer(client: socket.socket, kind: str, method: str) -> None:
    line, code = _S3_CODES[kind]
    body = b"" if method == "HEAD" else _BODY.format(code=code).encode()
    head = (
        f"HTTP/1.1 {line}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    client.sendall(head.encode() + body)


def _reset(end: socket.socket) -> None:
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()
