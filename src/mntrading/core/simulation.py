"""Made-up markets with a known truth: the demo and the yardstick of every other module.

A market is a pure function of ``(name, seed, n_symbols, start, end)``. Every series draws from its own
random stream, so a later ``end`` adds bars and changes none, and everything that happens (listings,
breaks, regimes) happens at fixed offsets from ``start``.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pandas as pd
from scipy.signal import lfilter

from mntrading.core import bars as ohlcv
from mntrading.core.errors import ParameterError
from mntrading.core.types import FloatArray, IntArray

MARKETS: Final = ("demo", "null", "ou", "break", "dirty")
TIMEFRAMES: Final = ("5m", "10m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d")
TRUTH_COLUMNS: Final = (
    "dependent", "independent", "alpha", "beta", "half_life_hours", "spread_std",
    "start", "end", "break_time",
)  # fmt: skip
LISTING_COLUMNS: Final = ("symbol", "base", "quote", "listed", "delisted", "tick", "lot", "min_notional")
QUOTE: Final = "USDT"
START: Final = pd.Timestamp("2025-01-01", tz="UTC")
END: Final = pd.Timestamp("2025-07-01", tz="UTC")

_BASE: Final = "5m"
_STEP_MS: Final = ohlcv.timeframe_ms(_BASE)
_DAY_MS: Final = ohlcv.timeframe_ms("1d")
_BARS_PER_HOUR: Final = ohlcv.timeframe_ms("1h") // _STEP_MS

_DEFAULT_SYMBOLS: Final = {"demo": 30, "null": 30, "ou": 2, "break": 6, "dirty": 12}
_FEWEST_SYMBOLS: Final = {"demo": 6, "null": 2, "ou": 2, "break": 2, "dirty": 6}
_LISTING_DAY: Final = 40
_DELISTING_DAY: Final = 120
_BREAK_DAY: Final = {"demo": 110, "dirty": 110, "break": 90}

_FACTOR_VOLATILITY: Final = 0.0013  # per 5m bar in a calm regime, 42 % a year
_CALM, _TURBULENT = 1.0, 1.9
_MIN_NOTIONAL: Final = 5.0
_DRIFT_AWAY_PER_DAY: Final = 0.5  # spread standard deviations, after a break

_HEADS: Final = ("Bro", "Cal", "Dwi", "Fep", "Gro", "Hul", "Jev", "Kry", "Lom", "Nub", "Pla", "Qua", "Vix")
_TAILS: Final = ("bix", "dun", "fo", "gel", "hob", "kum", "lev", "mip", "rax", "tuz", "wyn")


@dataclass(frozen=True, eq=False)
class Market:
    """A made-up market: its bars and the truth behind them.

    Attributes
    ----------
    name, seed
        What the market was asked for by.
    start, end
        Every bar opens at or after ``start`` and is closed at ``end``.
    symbols
        Symbols listed before ``end``, sorted.
    listings
        One row per symbol: symbol, base, quote, listed, delisted (NaT when still trading), tick, lot,
        min_notional (in quote units).
    truth
        One row per planted pair: ``log(dependent) = alpha + beta * log(independent) + spread`` at 5m closes,
        the spread being Ornstein–Uhlenbeck with ``half_life_hours`` and ``spread_std`` from ``start`` to
        ``end`` (exclusive); ``break_time`` is NaT for a pair that holds to the end of the market.
    """

    name: str
    seed: int
    start: pd.Timestamp
    end: pd.Timestamp
    symbols: tuple[str, ...]
    listings: pd.DataFrame
    truth: pd.DataFrame
    base_bars: pd.DataFrame = field(repr=False)

    def bars(self, timeframe: str) -> pd.DataFrame:
        """Clean bars of every symbol, sorted by symbol and time.

        Parameters
        ----------
        timeframe
            A multiple of 5m up to 1d. Coarser bars are aggregated from the 5m ones; only buckets that
            lie wholly between ``start`` and ``end`` are kept.

        Raises
        ------
        ParameterError
            The timeframe is no multiple of 5m, or is longer than a day.
        """
        step = ohlcv.timeframe_ms(timeframe)
        if step % _STEP_MS or step > _DAY_MS:
            raise ParameterError(f"timeframe {timeframe!r} can't be simulated, expected a multiple of 5m up to 1d")
        if step == _STEP_MS:
            return self.base_bars.copy(deep=False)
        coarse = ohlcv.aggregate(self.base_bars, timeframe)
        opens = coarse["timestamp"]
        whole = (opens >= self.start) & (opens + pd.Timedelta(step, unit="ms") <= self.end)
        return coarse.loc[whole].reset_index(drop=True).astype({"timestamp": ohlcv.TIMESTAMP_DTYPE})

    def rows(self, symbol: str, timeframe: str) -> FloatArray:
        """Clean bars of one symbol as ``(n, 6)`` rows of [open time in ms, o, h, l, c, volume]."""
        return rows_by_symbol(self.bars(timeframe))[symbol]

    def served(self, timeframe: str) -> dict[str, DirtyRows]:
        """What the market's exchange answers, per symbol: the clean rows, or for ``dirty`` dirtied ones."""
        clean = rows_by_symbol(self.bars(timeframe))
        if self.name != "dirty":
            return {symbol: DirtyRows(rows, _no_removals()) for symbol, rows in clean.items()}
        as_of_ms = ohlcv.to_ms(self.end)
        return {
            symbol: dirty_rows(rows, symbol=symbol, timeframe=timeframe, seed=self.seed, as_of_ms=as_of_ms)
            for symbol, rows in clean.items()
        }

    def removed(self, timeframe: str) -> pd.DataFrame:
        """Clean bars the exchange never serves intact: symbol, timestamp, reason. Empty but for ``dirty``."""
        parts = [part.removed.assign(symbol=symbol) for symbol, part in sorted(self.served(timeframe).items())]
        return pd.concat(parts, ignore_index=True)[["symbol", "timestamp", "reason"]].astype({"symbol": "str"})


@dataclass(frozen=True, eq=False)
class DirtyRows:
    """Rows in the order a careless exchange sends them, and the clean bars lost to it.

    Attributes
    ----------
    rows
        ``(m, 6)`` raw rows in arrival order.
    removed
        timestamp and reason of each clean bar that isn't served intact.
    """

    rows: FloatArray
    removed: pd.DataFrame


@dataclass(frozen=True)
class _PairPlan:
    dependent: str
    independent: str
    break_day: int | None


@dataclass(frozen=True)
class _Plan:
    """Who plays which part; ``late`` and ``leaving`` are walks listed late and delisted early."""

    walks: tuple[str, ...]
    pairs: tuple[_PairPlan, ...]
    stable: str | None = None
    late: str | None = None
    leaving: str | None = None
    illiquid: frozenset[str] = frozenset()

    @property
    def symbols(self) -> tuple[str, ...]:
        dependents = tuple(pair.dependent for pair in self.pairs)
        return (*self.walks, *dependents, *((self.stable,) if self.stable else ()))


@dataclass(frozen=True, eq=False)
class _Path:
    """Log closes of one symbol, the log price before its first bar, and its volatility per bar."""

    log_close: FloatArray
    log_before: float
    volatility: FloatArray


@dataclass(frozen=True, eq=False)
class _Climate:
    """What all symbols share: times, intraday season (mean square 1), volatility regime, factor returns."""

    opens: IntArray
    season: FloatArray
    regime: FloatArray
    factor: FloatArray


def market(
    name: str,
    *,
    seed: int = 0,
    n_symbols: int | None = None,
    start: pd.Timestamp | None = None,
    end: pd.Timestamp | None = None,
) -> Market:
    """Simulate one of the five markets.

    Parameters
    ----------
    name
        ``demo`` (planted pairs among factor-driven walks, one of which breaks; a late listing, a
        delisting, a stablecoin), ``null`` (walks with a common factor, nothing cointegrated), ``ou`` (one
        perfect pair), ``break`` (one pair whose cointegration dies), ``dirty`` (a small demo whose exchange
        serves hostile rows, see `Market.served`).
    seed
        Non-negative; the same name, seed and n_symbols give the same bars.
    n_symbols
        Number of symbols, the market's own default when None.
    start, end
        UTC. Every bar is closed at ``end``; a later ``end`` changes no earlier bar. Symbols not listed
        before ``end`` are absent.

    Raises
    ------
    ParameterError
        Unknown name, too few symbols, negative seed, or a start that is off the 5m grid or not before end.
    """
    if name not in MARKETS:
        raise ParameterError(f"unknown market {name!r}, expected one of {', '.join(MARKETS)}")
    count = _DEFAULT_SYMBOLS[name] if n_symbols is None else n_symbols
    if count < _FEWEST_SYMBOLS[name]:
        raise ParameterError(f"n_symbols is {count}, expected at least {_FEWEST_SYMBOLS[name]}", where=f"market {name}")
    if seed < 0:
        raise ParameterError(f"seed is {seed}, expected 0 or more", where=f"market {name}")
    first, last = START if start is None else start, END if end is None else end
    start_ms, end_ms = ohlcv.to_ms(first), ohlcv.to_ms(last)
    if start_ms % _STEP_MS or end_ms - start_ms < _STEP_MS:
        raise ParameterError(
            f"start {first} and end {last} hold no bar, expected a start on the 5m grid before the end",
            where=f"market {name}",
        )
    return _build(name, seed, _plan(name, count), _moment(start_ms), _moment(end_ms))


def dirty_rows(
    rows: FloatArray,
    *,
    symbol: str,
    timeframe: str,
    seed: int,
    as_of_ms: int | None = None,
    rate: float = 2e-4,
) -> DirtyRows:
    """Make clean rows as hostile as exchanges can be.

    Each kind of mischief strikes a row with probability ``rate``: a gap of 1–24 bars, an exact duplicate,
    a conflicting duplicate, a copy full of NaN ahead of the good row, a NaN, a price that isn't positive,
    a row in another unit, an extra row off the grid, a row that arrives out of order. With ``as_of_ms``, a
    symbol still trading also ends with its partial candle, and one in four has its last bars arrive late.

    Parameters
    ----------
    rows
        ``(n, 6)`` clean rows [open time in ms, o, h, l, c, volume] from the first bar of the symbol on.
    symbol, timeframe, seed
        Name the random stream, so that the answer never depends on what else is asked for.
    as_of_ms
        The exchange's clock; None leaves the end of the rows alone.
    rate
        Probability of each kind per row.

    Returns
    -------
    DirtyRows
        Prefix-consistent but for what ``as_of_ms`` does to the last bars.
    """
    clean = np.asarray(rows, dtype=np.float64).reshape(-1, 6)
    step, n = ohlcv.timeframe_ms(timeframe), len(clean)
    key = f"{symbol} {timeframe}"
    kind_draw = _rng(seed, "dirty", key, "kind").random(n)
    size_draw = _rng(seed, "dirty", key, "size").random(n)

    kinds = (
        "gap", "duplicate", "conflict", "masked", "not finite", "price not positive", "wrong unit",
        "off grid", "order",
    )  # fmt: skip
    out = clean.copy()
    arrival = np.arange(n, dtype=np.float64)
    lost = np.full(n, "", dtype=object)
    dropped = np.zeros(n, dtype=np.bool_)
    extra: list[FloatArray] = []
    extra_arrival: list[float] = []
    quiet_until = 48  # a stretch of clean rows before each change of unit, and at the beginning
    for i in np.flatnonzero(kind_draw < rate * len(kinds)).tolist():
        kind, size, row = kinds[int(kind_draw[i] / rate)], float(size_draw[i]), clean[i]
        if dropped[i] or i < 48 or (kind == "wrong unit" and i < quiet_until):
            continue
        if kind == "gap":
            stop = i + 1 + int(24 * size)
            dropped[i:stop] = True
            lost[i:stop] = "gap"
        elif kind == "not finite":
            out[i, 1 + int(4 * size)] = np.nan
            lost[i] = kind
        elif kind == "price not positive":
            out[i, 3] = 0.0 if size < 0.5 else -row[3]
            lost[i] = kind
        elif kind == "wrong unit":
            out[i, 1:5] = row[1:5] * (1000.0 if size < 0.4 else 0.001 if size < 0.8 else 100.0)
            lost[i] = kind
            quiet_until = i + 48
        elif kind == "order":
            arrival[i] += 1.5 + int(5 * size)
        else:
            twin = row.copy()
            if kind == "conflict":
                twin[1:5] *= 1.003
            elif kind == "masked":
                twin[1:] = np.nan
            elif kind == "off grid":
                twin[0] += 1000.0 * (1 + int(size * (step / 1000 - 2)))
            extra.append(twin)
            extra_arrival.append(i - 0.2 if kind == "masked" else i + 0.2)

    if as_of_ms is not None and n and clean[-1, 0] + step > as_of_ms - step:
        tail = _rng(seed, "dirty", key, "late").random(2)
        if tail[0] < 0.25:
            late = slice(max(n - 1 - int(2 * tail[1]), 0), n)
            lost[late] = "late"
            dropped[late] = True
        price = clean[-1, 4]
        partial = [
            as_of_ms // step * step,
            price,
            price * 1.002,
            price * 0.999,
            price * 1.001,
            clean[-1, 5] / 5,
        ]
        extra.append(np.array(partial))
        extra_arrival.append(float(n))

    served = np.vstack([out[~dropped], *extra]) if n else out
    order = np.argsort(np.concatenate([arrival[~dropped], np.array(extra_arrival)]), kind="stable")
    gone = lost != ""
    removed = pd.DataFrame(
        {"timestamp": _utc(clean[gone, 0].astype(np.int64)), "reason": pd.Series(lost[gone], dtype="str")}
    )
    return DirtyRows(served[order], removed)


def rows_by_symbol(frame: pd.DataFrame) -> dict[str, FloatArray]:
    """Bars sorted by symbol and time as ``(n, 6)`` raw rows per symbol."""
    table = np.column_stack(
        [ohlcv.times_ms(frame["timestamp"]), frame[list(ohlcv.COLUMNS[2:])].to_numpy(dtype=np.float64)]
    )
    codes, names = pd.factorize(frame["symbol"])
    cuts = np.flatnonzero(np.diff(codes)) + 1
    return dict(zip([str(name) for name in names], np.split(table, cuts), strict=True))


def _build(name: str, seed: int, plan: _Plan, start: pd.Timestamp, end: pd.Timestamp) -> Market:
    start_ms = ohlcv.to_ms(start)
    n = (ohlcv.to_ms(end) - start_ms) // _STEP_MS
    climate = _climate(name, seed, start_ms + _STEP_MS * np.arange(n, dtype=np.int64))

    paths = {symbol: _walk(name, seed, symbol, climate) for symbol in plan.walks}
    truth: list[dict[str, object]] = []
    for pair in plan.pairs:
        path, row = _dependent(name, seed, pair, paths[pair.independent], climate)
        paths[pair.dependent] = path
        truth.append(row)
    if plan.stable:
        paths[plan.stable] = _stable(name, seed, plan.stable, len(climate.opens))

    tables: list[FloatArray] = []
    listings: list[dict[str, object]] = []
    for symbol in sorted(plan.symbols):
        listed = start + pd.Timedelta(_LISTING_DAY if symbol == plan.late else 0, unit="D")
        left = start + pd.Timedelta(_DELISTING_DAY, unit="D")
        delisted = left if symbol == plan.leaving and left < end else pd.NaT
        if listed >= end:
            continue
        typical = _typical_quote_volume(name, seed, symbol, plan)
        digits, lot_digits = _grid(paths[symbol].log_before)
        rows = _bars(name, seed, symbol, paths[symbol], climate, (digits, lot_digits), typical)
        alive = climate.opens >= ohlcv.to_ms(listed)
        if delisted is not pd.NaT:
            alive &= climate.opens < ohlcv.to_ms(left)
        tables.append(rows[alive])
        listings.append({
            "symbol": symbol, "base": symbol.split("/")[0], "quote": QUOTE,
            "listed": listed, "delisted": delisted,
            "tick": float(f"1e-{digits}"), "lot": float(f"1e-{lot_digits}"), "min_notional": _MIN_NOTIONAL,
        })  # fmt: skip

    symbols = tuple(str(row["symbol"]) for row in listings)
    stacked = np.vstack(tables)
    frame = pd.DataFrame(stacked[:, 1:], columns=list(ohlcv.COLUMNS[2:]))
    frame.insert(0, "timestamp", _utc(stacked[:, 0].astype(np.int64)))
    codes = np.repeat(np.arange(len(symbols)), [len(table) for table in tables])
    frame.insert(1, "symbol", pd.Series(pd.Categorical.from_codes(codes, pd.Index(symbols))).astype("str"))
    listing_frame = pd.DataFrame(listings, columns=list(LISTING_COLUMNS))
    words = {"symbol": "str", "base": "str", "quote": "str"}
    return Market(
        name=name,
        seed=seed,
        start=start,
        end=end,
        symbols=symbols,
        listings=_with_utc_times(listing_frame, ("listed", "delisted")).astype(words),
        truth=_truth_frame(truth, start, end),
        base_bars=frame,
    )


def _plan(name: str, count: int) -> _Plan:
    names = _symbol_names(count)
    if name == "null":
        return _Plan(walks=names, pairs=())
    if name in ("ou", "break"):
        only = _PairPlan(names[0], names[1], _BREAK_DAY.get(name))
        return _Plan(walks=names[1:], pairs=(only,))
    n_pairs = max(1, count * 8 // 30)
    pairs = tuple(
        _PairPlan(names[2 * k], names[2 * k + 1], _BREAK_DAY[name] if 0 < k == n_pairs - 1 else None)
        for k in range(n_pairs)
    )
    others = names[2 * n_pairs : count - 1]
    return _Plan(
        walks=(*(pair.independent for pair in pairs), *others),
        pairs=pairs,
        stable=f"USDC/{QUOTE}",
        late=others[0],
        leaving=others[1],
        illiquid=frozenset(others[-2:]) if len(others) > 4 else frozenset(),
    )


def _symbol_names(count: int) -> tuple[str, ...]:
    """Made-up coins, ``BROBIX/USDT``; heads and tails advance together so neighbours look unlike."""
    heads, tails = len(_HEADS), len(_TAILS)
    names = []
    for i in range(count):
        generation, k = divmod(i, heads * tails)
        base = (_HEADS[k % heads] + _TAILS[(k // heads + k) % tails]).upper()
        names.append(f"{base}{generation + 1 if generation else ''}/{QUOTE}")
    return tuple(names)


def _rng(seed: int, *names: str) -> np.random.Generator:
    """Stream of one series: the same for the same names, whatever else is drawn."""
    words = [int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big") for word in names]
    return np.random.default_rng(np.random.SeedSequence([seed, *words]))


def _climate(name: str, seed: int, opens: IntArray) -> _Climate:
    hours = (opens % _DAY_MS) / ohlcv.timeframe_ms("1h")
    log_season = 0.25 * np.cos(2 * np.pi * (hours - 15) / 24)
    season = np.exp(log_season) / math.sqrt(float(np.i0(0.5)))
    # calm and turbulent spells of 10 to 40 days by turns: at least one change in any 40 days
    spells = _rng(seed, name, "factor", "spells").uniform(10, 40, size=4000)
    changes = (np.cumsum(spells) * (_DAY_MS // _STEP_MS)).astype(np.int64)
    index = np.arange(len(opens))
    regime = np.where(np.searchsorted(changes, index, side="right") % 2 == 0, _CALM, _TURBULENT)
    shocks = _rng(seed, name, "factor", "returns").standard_normal(len(opens))
    return _Climate(opens, season, regime, _FACTOR_VOLATILITY * season * regime * shocks)


def _ar1(shocks: FloatArray, half_life: float, std: float) -> FloatArray:
    """Stationary AR(1) with the given half-life in bars and standard deviation, driven by unit shocks."""
    phi = 0.5 ** (1 / half_life)
    scaled = std * math.sqrt(1 - phi * phi) * shocks
    scaled[0] = std * shocks[0]
    return np.asarray(lfilter([1.0], [1.0, -phi], scaled), dtype=np.float64)


def _price(name: str, seed: int, symbol: str) -> float:
    return float(10 ** _rng(seed, name, symbol, "price").uniform(-1.3, 3.3))


def _walk(name: str, seed: int, symbol: str, climate: _Climate) -> _Path:
    """A random walk on the market factor: ``loading × factor + own shocks``, with stochastic volatility."""
    n = len(climate.opens)
    loading, own = _rng(seed, name, symbol, "profile").uniform([0.5, 0.0012], [1.4, 0.0026])
    swings = np.exp(_ar1(_rng(seed, name, symbol, "volatility").standard_normal(n), 144, 0.25))
    own_volatility = own * climate.season * np.sqrt(climate.regime) * swings
    shocks = _rng(seed, name, symbol, "returns").standard_normal(n)
    before = math.log(_price(name, seed, symbol))
    returns = loading * climate.factor + own_volatility * shocks
    factor_volatility = loading * _FACTOR_VOLATILITY * climate.season * climate.regime
    return _Path(before + np.cumsum(returns), before, np.sqrt(factor_volatility**2 + own_volatility**2))


_WIDE_SPREAD: Final = (0.010, 0.018)
_SPREAD_STD: Final = {"demo": (0.0035, 0.006)}  # in the demo a trade has to earn its costs, as on an exchange


def _dependent(
    name: str, seed: int, pair: _PairPlan, independent: _Path, climate: _Climate
) -> tuple[_Path, dict[str, object]]:
    """The planted leg, and its row of the truth."""
    draw = _rng(seed, name, pair.dependent, "pair")
    narrow, broad = _SPREAD_STD.get(name, _WIDE_SPREAD)
    half_life_hours, std, beta = (round(float(x), 4) for x in draw.uniform([6, narrow, 0.6], [14, broad, 1.4]))
    alpha = round(math.log(_price(name, seed, pair.dependent)) - beta * independent.log_before, 6)
    away = 1.0 if draw.random() < 0.5 else -1.0

    half_life = half_life_hours * _BARS_PER_HOUR
    shocks = _rng(seed, name, pair.dependent, "spread").standard_normal(len(climate.opens))
    spread = _ar1(shocks, half_life, std)
    shock_std = std * math.sqrt(1 - 0.25 ** (1 / half_life))
    if pair.break_day is not None:
        k = pair.break_day * _DAY_MS // _STEP_MS
        drift = away * _DRIFT_AWAY_PER_DAY * std / (_DAY_MS // _STEP_MS)
        wander = np.cumsum(drift + shock_std * shocks[k:])
        spread = np.concatenate([spread[:k], spread[min(k, len(spread)) - 1] + wander])
    path = _Path(
        alpha + beta * independent.log_close + spread,
        alpha + beta * independent.log_before,
        np.sqrt((beta * independent.volatility) ** 2 + shock_std**2),
    )
    row: dict[str, object] = {
        "dependent": pair.dependent, "independent": pair.independent, "alpha": alpha, "beta": beta,
        "half_life_hours": half_life_hours, "spread_std": std, "break_day": pair.break_day,
    }  # fmt: skip
    return path, row


def _stable(name: str, seed: int, symbol: str, n: int) -> _Path:
    shocks = _rng(seed, name, symbol, "returns").standard_normal(n)
    return _Path(_ar1(shocks, 6 * _BARS_PER_HOUR, 0.0003), 0.0, np.full(n, 0.00004))


def _typical_quote_volume(name: str, seed: int, symbol: str, plan: _Plan) -> float:
    """Median quote volume of a 5m bar: two orders of magnitude among the liquid, less for the illiquid."""
    spread = float(_rng(seed, name, symbol, "liquidity").uniform())
    if symbol == plan.stable:
        return 1e6
    return 60 + 200 * spread if symbol in plan.illiquid else float(8e3 * 10 ** (2.1 * spread))


def _grid(log_price: float) -> tuple[int, int]:
    """Decimals of prices (six significant digits at the start) and of amounts (about a cent's worth)."""
    magnitude = math.floor(log_price / math.log(10) + 1e-9)
    return 5 - magnitude, max(magnitude + 2, 0)


def _bars(
    name: str,
    seed: int,
    symbol: str,
    path: _Path,
    climate: _Climate,
    digits: tuple[int, int],
    typical_quote_volume: float,
) -> FloatArray:
    """Raw rows of one path: highs and lows of Brownian bridges between open and close, on the tick grid."""
    n = len(climate.opens)
    noise = _rng(seed, name, symbol, "gaps").standard_normal(n)
    before = np.concatenate([[path.log_before], path.log_close[:-1]])
    opened = before + 0.04 * path.volatility * noise
    move = path.log_close - opened
    draws = 1.0 - _rng(seed, name, symbol, "wicks").random((n, 2))
    reach = np.sqrt(move[:, None] ** 2 - 2 * (path.volatility**2)[:, None] * np.log(draws))
    logs = np.column_stack(
        [opened, opened + (move + reach[:, 0]) / 2, opened + (move - reach[:, 1]) / 2, path.log_close]
    )
    scale = 10.0 ** digits[0]
    prices = np.maximum(np.rint(np.exp(logs) * scale), 1.0) / scale
    prices[:, 1] = prices.max(axis=1)
    prices[:, 2] = prices.min(axis=1)

    volume_rng = _rng(seed, name, symbol, "volume").standard_normal((n, 2))
    busy = np.log(climate.season * climate.regime) + 0.35 * np.abs(move) / path.volatility
    log_quote = busy + _ar1(volume_rng[:, 0].copy(), 36, 0.5) + 0.45 * volume_rng[:, 1]
    lots = 10.0 ** digits[1]
    volume = np.rint(typical_quote_volume * np.exp(log_quote) / prices[:, 3] * lots) / lots
    return np.column_stack([climate.opens, prices, volume])


def _truth_frame(rows: list[dict[str, object]], start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=[*TRUTH_COLUMNS[:6], "break_day"])
    days = pd.to_timedelta(pd.to_numeric(frame.pop("break_day")), unit="D")
    broken = (start + days).astype(ohlcv.TIMESTAMP_DTYPE)
    frame["start"] = start
    frame["break_time"] = broken.where(broken < end)
    frame["end"] = broken.where(broken < end, end)
    numbers = dict.fromkeys(("alpha", "beta", "half_life_hours", "spread_std"), "float64")
    words = {"dependent": "str", "independent": "str"}
    return _with_utc_times(frame[list(TRUTH_COLUMNS)], ("start", "end", "break_time")).astype({**numbers, **words})


def _with_utc_times(frame: pd.DataFrame, columns: tuple[str, ...]) -> pd.DataFrame:
    stamps = {name: pd.to_datetime(frame[name], utc=True).astype(ohlcv.TIMESTAMP_DTYPE) for name in columns}
    return frame.assign(**stamps)


def _moment(milliseconds: int) -> pd.Timestamp:
    return ohlcv.from_ms(milliseconds).as_unit("ms")


def _utc(opens_ms: IntArray) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(opens_ms.astype("datetime64[ms]")).tz_localize("UTC")


def _no_removals() -> pd.DataFrame:
    return pd.DataFrame({"timestamp": _utc(np.empty(0, dtype=np.int64)), "reason": pd.Series([], dtype="str")})
