"""Every way an exchange can fail, and what is stored then: real ccxt against the loopback exchange.

    make fault-matrix

For each fault one ingestion runs into it, then one without it follows, an hour later. Counted after each:
*invalid* bars (differ from what the exchange has), *twice* (a stamp stored more than once) and *lost* ones (the
exchange has them, the store does not, and its ledger takes them for fetched). All must be 0, always; and after the
second run the store must hold what the exchange has. The last line has the figures, the exit code is 1 when any of
this is broken.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
import tempfile
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd

from mntrading.core.bars import times_ms
from mntrading.core.errors import MNTradingError
from mntrading.core.types import FloatArray
from mntrading.datasets import BarContract, BarsDataset, BarStore
from mntrading.datasets.storage import canonical_json
from mntrading.market import MarketInfo, MarketSource
from mntrading.market.budget import Budgets
from mntrading.market.ccxt_source import CcxtSource
from mntrading.market.loopback import Fault, Loopback
from mntrading.market.loopback.server import ManualClock
from mntrading.market.simulator import SimulatorSource
from mntrading.params import IngestionParams, MarketParams
from mntrading.pipelines.ingestion import nodes

STEP = 3_600_000
SINCE = 1_735_689_600_000
HOURS = 100  # until the first run; the second is an hour later
SYMBOLS = 6


@dataclass(frozen=True)
class Case:
    """A fault, and what is to come of it."""

    name: str
    faults: tuple[Fault, ...] = ()
    skew_ms: int = 0
    machine_skew_ms: int = 0
    change: Callable[[MarketSource], MarketSource] | None = None
    """What the exchange serves at the second run instead."""
    stays_missing: bool = False
    """Whether what is missing after the first run is missing at the exchange too."""


class Without(MarketSource):
    """A market from which one symbol was delisted, or under another name."""

    def __init__(self, source: MarketSource, symbol: str, renamed: str | None = None) -> None:
        self._source, self._symbol, self._renamed = source, symbol, renamed

    @property
    def identity(self) -> str:
        """The source's."""
        return self._source.identity

    def load_markets(self) -> dict[str, MarketInfo]:
        """All but the one, which may have another name."""
        markets = dict(self._source.load_markets())
        info = markets.pop(self._symbol)
        if self._renamed:
            base = self._renamed.partition("/")[0]
            markets[self._renamed] = dataclasses.replace(info, symbol=self._renamed, base=base)
        return markets

    def timeframes_of(self, symbol: str) -> frozenset[str] | None:
        """As the source has them."""
        return self._source.timeframes_of(self._symbol if symbol == self._renamed else symbol)

    def server_time(self) -> int:
        """The source's."""
        return self._source.server_time()

    def fetch_ohlcv(self, symbol: str, timeframe: str, since: int | None, limit: int | None) -> FloatArray:
        """The source's; under a new name from the hour of the change on."""
        if symbol != self._renamed:
            return self._source.fetch_ohlcv(symbol, timeframe, since, limit)
        return self._source.fetch_ohlcv(self._symbol, timeframe, max(since or 0, SINCE + HOURS * STEP), limit)


def cases(symbol: str) -> list[Case]:
    """The matrix."""
    answers = ("429", "418", "500", "503", "timeout", "reset", "html", "truncated")
    data = (
        "duplicates", "conflicting", "out_of_order", "partial_last", "nan", "negative", "off_grid", "wrong_unit",
        "wrong_unit_run",
    )  # fmt: skip
    quick: dict[str, Any] = {"seconds": 0.01}
    return [
        Case("none"),
        *(Case(f"{kind}, once", (Fault(kind, **quick),)) for kind in answers),
        *(Case(f"{kind}, always, one symbol", (Fault(kind, permanent=True, symbols=(symbol,), **quick),))
          for kind in answers),
        Case("503, always", (Fault("503", permanent=True),)),
        Case("451, always", (Fault("451", permanent=True),)),
        *(Case(f"{kind}, in the first answer", (Fault(kind, row_every=17),)) for kind in data),
        *(Case(f"{kind}, in every answer", (Fault(kind, row_every=17, permanent=True),)) for kind in data),
        Case("gap, in the first answer", (Fault("gap", row_every=17, run=2),)),
        Case("gap, for good", (Fault("gap", row_every=17, run=2, permanent=True),), stays_missing=True),
        Case("delisted on the way", (Fault("unknown_symbol", permanent=True, after=1, symbols=(symbol,)),)),
        Case("delisted", change=lambda source: Without(source, symbol)),
        Case("renamed", change=lambda source: Without(source, symbol, "RENAMED/USDT")),
        Case("exchange's clock 5 min ahead", skew_ms=300_000),
        Case("exchange's clock 5 min behind", skew_ms=-300_000),
        Case("this machine's clock 5 min ahead", machine_skew_ms=300_000),
        Case("this machine's clock 5 min behind", machine_skew_ms=-300_000),
        Case("everything at once, one answer in five", (
            *(Fault(kind, share=0.2, **quick) for kind in ("429", "503", "timeout", "reset", "html", "truncated")),
            *(Fault(kind, row_every=41, share=0.2) for kind in data),
        )),
    ]  # fmt: skip


def ingest(source: MarketSource, dataset: BarsDataset, market: MarketParams, ingestion: IngestionParams) -> str:
    """One run of the ingestion's nodes; what was said in the end."""
    with mock.patch.object(nodes, "open_source", return_value=source):
        try:
            markets, _ = nodes.fetch_markets(market, ingestion, dataset.load(), None)
            told = json.loads(canonical_json(markets))
            for update in nodes.fetch_bars_1h(market, ingestion, told, dataset.load()):
                BarContract("1h").validate(update)
                dataset.save(update)
        except MNTradingError as error:
            return type(error).__name__
    return "done"


@dataclass(frozen=True)
class Count:
    """What a store holds, against the truth."""

    stored: int
    invalid: int
    twice: int
    lost: int
    missing: int

    @property
    def broken(self) -> int:
        """Bars that must not be."""
        return self.invalid + self.twice + self.lost


def count(store: BarStore, truth: Mapping[str, FloatArray], until: int) -> Count:
    """Compare a store with all bars that are closed at a time."""
    stored = invalid = twice = lost = missing = 0
    for symbol, rows in truth.items():
        there = rows[rows[:, 0] + STEP <= until]
        frame = store.get(symbol)
        opens = np.empty(0, dtype=np.int64) if frame is None else times_ms(frame["timestamp"])
        values = np.empty((0, 5)) if frame is None else frame.iloc[:, 2:].to_numpy(dtype=np.float64)
        stored += len(opens)
        twice += len(opens) - len(np.unique(opens))
        known = {int(row[0]): row[1:] for row in there}
        invalid += sum(not np.array_equal(known.get(int(at), []), row) for at, row in zip(opens, values, strict=True))
        ledger = store.ledger(symbol)
        absent = sorted(set(known) - set(opens.tolist()))
        missing += len(absent)
        for at in absent:
            fetched = any(first <= at < end for first, end in ledger.fetched)
            lost += fetched and not any(gap.first <= at < gap.until for gap in ledger.gaps)
    return Count(stored, invalid, twice, lost, missing)


def run(case: Case, market: MarketParams, ingestion: IngestionParams, folder: Path) -> dict[str, Any]:
    """A run into the fault, and one after it."""
    end = pd.Timestamp(SINCE + (HOURS + 2) * STEP, unit="ms", tz="UTC")
    served: MarketSource = SimulatorSource("demo", n_symbols=SYMBOLS, end=end)
    names = [name for name, info in served.load_markets().items() if info.base not in ingestion.listing.excluded_bases]
    truth = {
        symbol: rows[np.argsort(rows[:, 0])]
        for symbol in names
        if len(rows := served.fetch_ohlcv(symbol, "1h", SINCE, None))
    }
    dataset = BarsDataset(path=folder / "ohlcv_1h.parquet", timeframe="1h", missing_ok=True)
    out: dict[str, Any] = {"case": case.name}
    for turn, hours in enumerate((HOURS, HOURS + 1)):
        now_ms = SINCE + hours * STEP + STEP // 2  # half of the newest bar is still to come
        first = turn == 0
        source = case.change(served) if case.change and not first else served
        with Loopback(
            source, case.faults if first or case.stays_missing else (), now_ms=now_ms,
            skew_ms=case.skew_ms if first else 0,
        ) as exchange:  # fmt: skip
            clock = ManualClock((now_ms + (case.machine_skew_ms if first else 0)) / 1000)
            client = CcxtSource(
                "binance", max_attempts=4, max_concurrency=2, base_url=exchange.url, budgets=Budgets(clock),
                timeout_seconds=5.0,
            )  # fmt: skip
            stable = mock.patch.object(CcxtSource, "identity", "ccxt:binance@loopback")  # whatever the port
            with stable:
                out[f"said_{turn}"] = ingest(client, dataset, market, ingestion)
        until = (now_ms + (min(case.skew_ms, case.machine_skew_ms, 0) if first else 0)) // STEP * STEP
        out[f"count_{turn}"] = count(dataset.load(), truth, until)
    return out


def verdict(case: Case, out: Mapping[str, Any], expected: int) -> list[str]:
    """What is wrong with what came of a case; empty when nothing is."""
    wrong = []
    for turn in (0, 1):
        broken = out[f"count_{turn}"].broken
        if broken:
            wrong.append(f"{broken} bars invalid, twice or lost")
    missing = out["count_1"].missing
    gone = 1 if case.change else 0  # the hour after the symbol went
    if missing != (out["count_0"].missing if case.stays_missing and missing else gone):
        wrong.append(f"{missing} bars missing in the end")
    if not case.stays_missing and out["count_1"].stored != expected - gone:
        wrong.append(f"{out['count_1'].stored} bars stored in the end, expected {expected - gone}")
    if out["said_1"] != "done":
        wrong.append(f"the second run ended with {out['said_1']}")
    return wrong


def matrix(parameters: types.SimpleNamespace, *, only: str | None = None) -> tuple[list[dict[str, Any]], int]:
    """All cases with their verdicts, and the number of bars that were compared."""
    ingestion = parameters.ingestion.model_copy(update={"page_limit": 40, "gap_final_days": 10.0})
    results = []
    compared = 0
    with tempfile.TemporaryDirectory(prefix="fault-matrix-") as folder:
        plain = run(Case("none"), parameters.market, ingestion, Path(folder) / "none")
        expected = plain["count_1"].stored
        symbol = BarsDataset(path=Path(folder) / "none" / "ohlcv_1h.parquet", timeframe="1h").load().symbols[0]
        for number, case in enumerate(cases(symbol)):
            if only and only not in case.name:
                continue
            out = run(case, parameters.market, ingestion, Path(folder) / str(number))
            results.append({**out, "wrong": verdict(case, out, expected)})
            compared += out["count_0"].stored + out["count_1"].stored
    return results, compared


def parameters() -> types.SimpleNamespace:
    """The parameters of ``conf/base``."""
    from kedro.config import OmegaConfigLoader

    from mntrading.configuration import RESOLVERS
    from mntrading.params import BLOCKS

    conf = Path(__file__).parents[2] / "conf"
    loader = OmegaConfigLoader(str(conf), base_env="base", default_run_env="base", custom_resolvers=RESOLVERS)
    return types.SimpleNamespace(
        **{key: BLOCKS[key].model_validate(block) for key, block in loader["parameters"].items()}
    )


def main() -> int:
    """Print the matrix."""
    logging.disable(logging.WARNING)
    results, compared = matrix(parameters())
    say = sys.stdout.write
    say(
        f"{'fault':44}{'first run':>24}{'stored':>8}{'missing':>8}{'then':>7}{'stored':>8}{'missing':>8}{'broken':>8}\n"
    )
    for out in results:
        before, after = out["count_0"], out["count_1"]
        say(
            f"{out['case']:44}{out['said_0']:>24}{before.stored:>8}{before.missing:>8}{out['said_1']:>7}"
            f"{after.stored:>8}{after.missing:>8}{before.broken + after.broken:>8}"
            f"{'  ' + '; '.join(out['wrong']) if out['wrong'] else ''}\n"
        )
    counts = [out[f"count_{turn}"] for out in results for turn in (0, 1)]
    failed = sum(bool(out["wrong"]) for out in results)
    say(
        f"fault-matrix: {len(results)} faults, {compared} stored bars compared, "
        f"{sum(c.invalid for c in counts)} invalid, {sum(c.lost for c in counts)} lost, "
        f"{sum(c.twice for c in counts)} duplicated, {failed} not as expected\n"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
