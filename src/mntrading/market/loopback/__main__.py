"""``python -m mntrading.market.loopback``: an exchange to try the live environment on, without a network."""

from __future__ import annotations

import argparse
import logging
import signal
import threading
from typing import Final

import pandas as pd

from mntrading.core import bars, simulation
from mntrading.core.errors import MNTradingError
from mntrading.market.base import MarketSource
from mntrading.market.files import FilesSource
from mntrading.market.loopback.faults import ANSWERS, DATA, Fault
from mntrading.market.loopback.server import Loopback
from mntrading.market.simulator import SimulatorSource

logger = logging.getLogger("mntrading.loopback")

_DAYS_AHEAD: Final = 7  # bars that a running clock can still reach


def main(arguments: list[str] | None = None) -> None:
    """Serve until interrupted."""
    asked = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        source, now_ms = _source(asked)
        exchange = Loopback(
            source,
            asked.fault,
            port=asked.port,
            now_ms=now_ms,
            speed=asked.speed,
            latency_ms=asked.latency_ms,
            weight_per_minute=asked.weight_per_minute,
            seed=asked.seed,
        )
    except (MNTradingError, OSError) as error:
        raise SystemExit(str(error)) from error
    with exchange:
        logger.info(
            "%s as an exchange at %s; try it: MNTRADING_EXCHANGE_URL=%s kedro run --env live --pipelines ingestion",
            source.identity,
            bars.from_ms(exchange.now()).isoformat(),
            exchange.url,
        )
        stop.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mntrading.market.loopback", description=__doc__)
    parser.add_argument("--market", choices=simulation.MARKETS, default="demo", help="simulated market to replay")
    parser.add_argument("--seed", type=int, default=0, help="of the simulated market, and of the faults")
    parser.add_argument("--files", metavar="DIR", help="replay bars in files")
    parser.add_argument("--quote", help="quote currency of files whose symbols name none")
    parser.add_argument("--port", type=int, default=8787)
    parser.add_argument("--now", type=_moment, help="the exchange's clock, 2025-06-01T00:00:00Z; default: the last bar")
    parser.add_argument("--speed", type=float, default=0.0, help="times real time that the clock runs; 0 stands still")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--weight-per-minute", type=int, help="request weight beyond which 429 is answered")
    parser.add_argument(
        "--fault",
        type=_fault,
        action="append",
        default=[],
        metavar="KIND[:EVERY]",
        help=f"every k-th request for bars (default: each symbol's first) fails so: {', '.join(ANSWERS + DATA)}",
    )
    return parser


def _source(asked: argparse.Namespace) -> tuple[MarketSource, int | None]:
    """What is replayed, and the exchange's clock at the start."""
    now_ms = None if asked.now is None else bars.to_ms(asked.now)
    if asked.files:
        return FilesSource(asked.files, quote=asked.quote), now_ms
    now = asked.now or simulation.END
    end = now + pd.Timedelta(_DAYS_AHEAD, unit="D") if asked.speed else now
    return SimulatorSource(asked.market, asked.seed, end=end), bars.to_ms(now)


def _fault(text: str) -> Fault:
    kind, _, every = text.partition(":")
    try:
        return Fault(kind, every=int(every) if every else None)
    except (MNTradingError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{text}: {error}") from error


def _moment(text: str) -> pd.Timestamp:
    moment = pd.Timestamp(text)
    return moment.tz_localize("UTC") if moment.tzinfo is None else moment.tz_convert("UTC")


if __name__ == "__main__":
    main()
