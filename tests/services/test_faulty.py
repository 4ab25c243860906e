"""The way to a server that fails on demand passes what a server sends in chunks, and cuts it when told to."""

from __future__ import annotations

import http.client
import http.server
import threading
from collections.abc import Iterator

import pytest
from faulty import Fault, FaultyWay

BODY = [b"a" * 100_000, b"bc"]


class Chunks(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in (*BODY, b""):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def way() -> Iterator[FaultyWay]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Chunks)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with FaultyWay(server.server_port) as way:
            yield way
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_connection_goes_on_after_a_chunked_answer(way):
    client = http.client.HTTPConnection(way.address.removeprefix("http://"), timeout=5)
    for _ in range(3):
        client.request("GET", "/")
        assert client.getresponse().read() == b"".join(BODY)
    way.fail(Fault("truncate"))
    client.request("GET", "/")
    with pytest.raises(http.client.IncompleteRead):
        client.getresponse().read()
    client.close()
