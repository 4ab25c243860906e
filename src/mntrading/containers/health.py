"""``python -m mntrading.containers.health [URL] [--storage]``: whether a service answers as it should.

What it says stands in ``docker inspect``; the exit code is 1 where anything is amiss.
"""

from __future__ import annotations

import argparse
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

_SECONDS: Final = 5.0


def answer(url: str) -> str:
    """What a URL answers, in one line.

    Raises
    ------
    OSError
        Where it does not answer within five seconds, or with an error.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ValueError(f"{url}: only http and https are asked")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # what is asked is never behind a proxy
    try:
        with opener.open(url, timeout=_SECONDS) as response:
            return f"{url}: {response.status}"
    except urllib.error.HTTPError as error:
        with error:
            said = error.read(200).decode("utf-8", errors="replace").strip()
        raise OSError(f"{url}: {error.code} {said}") from None
    except OSError as error:
        raise OSError(f"{url}: {getattr(error, 'reason', None) or error}") from None


def main(arguments: Sequence[str]) -> int:
    """Ask what is named, say what was answered, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m mntrading.containers.health", description=__doc__)
    parser.add_argument("url", nargs="?", help="asked with GET; its answer must be a success")
    parser.add_argument("--storage", action="store_true", help="the bucket of the environment must be there")
    given = parser.parse_args(arguments)
    said, amiss = [], False
    questions: list[Callable[[], str]] = []
    if given.url:
        questions.append(lambda: answer(given.url))
    if given.storage:
        questions.append(_storage)
    for asked in questions:
        try:
            said.append(asked())
        except OSError as error:
            said.append(str(error))
            amiss = True
    sys.stdout.write("; ".join(said) + "\n")
    return int(amiss)


def _storage() -> str:
    from mntrading.containers.buckets import Buckets, named

    buckets = Buckets.of_environment()
    for name in named():
        buckets.check(name)
    return f"{buckets.endpoint}: {', '.join(named())}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
