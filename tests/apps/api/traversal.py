"""Ways out of a folder, as people try them: into names, partition ids, run ids and queries."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, product
from urllib.parse import quote

UP = (
    "../", "..\\", "..%2f", "%2e%2e/", "%2e%2e%2f", "..%5c", "%252e%252e%252f", "..%c0%af", "....//", "..;/", ".%2e/",
    "%u002e%u002e/",
)  # fmt: skip
TARGETS = (
    "etc/passwd", "canary.txt", "proc/self/environ", "conf/base/credentials.yml", ".api/queue.db", "mlflow.db", ".lock",
)  # fmt: skip
ABSOLUTE = (
    "/etc/passwd", "//etc/passwd", "file:///etc/passwd", "file://canary.txt", "s3://bucket/key", "http://127.0.0.1:22/",
    "http://169.254.169.254/latest/meta-data/", "C:\\windows\\win.ini", "\\\\host\\share", "~/.ssh/id_rsa",
    "memory://x", "local::/etc/passwd", "simplecache::file:///etc/passwd", "zip://a::file:///etc/passwd", "$HOME",
    "${env:HOME}", "`id`", ";id", "|id", "latest_orders\x00.json", "latest_orders%00", "signals/", "signals/.",
    "./latest_orders", "LATEST_ORDERS", "latest_orders ", " latest_orders", "latest_orders/", "latest_orders#",
    "_run_params", "params:portfolio", "parameters", "__class__", "constructor", "*", "?", "[a-z]*", "%s%s%n", "{name}",
    "-1", "0", "null", "None",
)  # fmt: skip


def payloads() -> Iterator[str]:
    """Every way, plain and quoted."""
    for depth, up, target in product((1, 2, 3, 6, 12), UP, TARGETS):
        yield up * depth + target
    for one in ABSOLUTE:
        yield one
        yield quote(one, safe="")


def paths(n: int) -> list[str]:
    """So many raw paths (already quoted as they go over the wire) at which something might lie."""
    places = (
        "/artifacts/{}", "/artifacts/signals/{}", "/artifacts/latest_report/{}", "/artifacts/tear_sheets/{}",
        "/runs/{}", "/parameters/{}", "/artifacts/..%2f{}", "/{}", "/report/latest?format={}",
        "/artifacts/pair_features/{}",
    )  # fmt: skip
    made = (place.format(quote(one, safe="/%.;:~")) for one, place in product(payloads(), places))
    return list(islice(_spread(made), n))


def _spread(items: Iterator[str]) -> Iterator[str]:
    """All of them, each kind early: a step that shares no factor with the kinds' numbers."""
    every = list(items)
    yield from (every[(k * 4099) % len(every)] for k in range(len(every)))
