"""What every fuzzing here shares: cases drawn until one breaks something, and the command line around it."""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

T = TypeVar("T")


class Told(Protocol):
    """Figures that can be told in a line."""

    def line(self) -> str:
        """One line for people and logs."""
        ...


def draw(
    drawn: SearchStrategy[T], wrong_with: Callable[[T], Sequence[str]], n: int, *, seed_: int, shrink: bool
) -> None:
    """Draw cases until all are through or something is wrong with one, which ``shrink`` makes as small as can be.

    Raises
    ------
    AssertionError
        What is wrong, and the case.
    """

    @seed(seed_)
    @settings(
        max_examples=n,
        deadline=None,
        database=None,
        print_blob=False,
        phases=tuple(Phase) if shrink else (Phase.generate,),
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(drawn)
    def one(case: T) -> None:
        wrong = wrong_with(case)
        assert not wrong, "\n".join([*wrong, repr(case)])

    one()


def command_line(
    doc: str, what: str, usual: int, fuzz: Callable[..., Any], figures: Told, arguments: Sequence[str] | None
) -> int:
    """Fuzz ``usual`` cases or as many as are asked for; one that breaks something is shown, and the exit code is 1."""
    parser = argparse.ArgumentParser(description=doc.split("\n\n")[0])
    parser.add_argument(f"--{what}", dest="n", type=int, default=usual)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    began, verdict = time.monotonic(), ""
    try:
        fuzz(options.n, seed_=options.seed, figures=figures)
    except Exception:  # noqa: BLE001 (whatever it is, it is what was looked for)
        traceback.print_exc()
        verdict = "; BROKEN"
    sys.stdout.write(f"{figures.line()}; {time.monotonic() - began:.0f} s{verdict}\n")
    return 1 if verdict else 0
