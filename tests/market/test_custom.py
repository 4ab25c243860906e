from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mntrading.core import bars, simulation
from mntrading.core.errors import ParameterError, SourceError
from mntrading.core.quality import judge
from mntrading.market import MarketSource, market_time
from mntrading.market.custom import load_custom
from mntrading.market.paging import fetch_range
from mntrading.params import CustomParams, QualityParams

RULES = QualityParams(max_jump=20.0, confirm_bars=12, reuse_gap_hours=24.0, reuse_jump=3.0)

DOCS = Path(__file__).parents[2] / "docs" / "data.md"
EXAMPLE = DOCS.read_text("utf-8").partition("```python\n")[2].partition("```")[0]


class Ahead(MarketSource):
    """A market of one's own whose clock is a day ahead."""

    identity = "ahead"

    def load_markets(self) -> dict[str, Any]:
        return {}

    def fetch_ohlcv(self, *_: Any) -> Any:
        return np.empty((0, 6))

    def server_time(self) -> int:
        return 1_735_776_000_000


def test_the_clock_of_a_source_of_ones_own_is_not_believed_ahead_of_this_machines(
    params: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    custom = params.market.model_copy(update={"source": "custom"})
    monkeypatch.setattr("time.time", lambda: 1_735_689_600.0)
    assert market_time(Ahead(), custom) == 1_735_689_600_000
    assert market_time(Ahead(), params.market) == 1_735_776_000_000
    monkeypatch.setattr("time.time", lambda: 1_735_862_400.0)
    assert market_time(Ahead(), custom) == 1_735_776_000_000


BROKEN = """\
from mntrading.core.errors import SourceError
from mntrading.market import MarketSource


class Whole(MarketSource):
    identity = "whole"

    def load_markets(self):
        return {}

    def fetch_ohlcv(self, symbol, timeframe, since, limit):
        return []


class Bare:
    identity = "bare"

    def load_markets(self):
        return {}


class Stub(MarketSource):
    def load_markets(self):
        return {}


class Nameless(Whole):
    identity = ""


class Numbered(Whole):
    @property
    def identity(self):
        return 7


class NotAMethod(Whole):
    fetch_ohlcv = 3


class Picky(Whole):
    def __init__(self, folder):
        raise FileNotFoundError(folder)


class Down(Whole):
    def __init__(self):
        raise SourceError("the door is shut", fix="knock")


def make():
    return Whole()
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Write a module that can be imported; its name is the test's own, for a module is imported once."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(code: str) -> str:
        name = "custom_" + "".join(c if c.isalnum() else "_" for c in request.node.name)
        (tmp_path / f"{name}.py").write_text(code, "utf-8")
        return name

    return write


def load(loader: str | None, **options: Any) -> Any:
    return load_custom(CustomParams(loader=loader, options=options))


def test_the_documented_example_serves_its_bars(tmp_path: Path, written: Callable[[str], str]) -> None:
    market = simulation.market("ou", end=simulation.START + pd.Timedelta(days=3))
    rows = market.rows(market.symbols[0], "1h")
    pd.DataFrame(rows).to_csv(tmp_path / "mine.csv", index=False)
    source = load(f"{written(EXAMPLE)}.CsvSource", path=str(tmp_path / "mine.csv"), symbol="MINE/USDT")
    assert (source.identity, source.concurrency, source.timeframes_of("MINE/USDT")) == ("csv:mine", 1, None)
    info = source.load_markets()["MINE/USDT"]
    assert (info.base, info.quote, info.active) == ("MINE", "USDT", True)
    until = min(source.server_time(), bars.to_ms(market.end))
    raw = fetch_range(source, "MINE/USDT", "1h", since_ms=bars.to_ms(market.start), until_ms=until, page_limit=50)
    judged = judge(raw, "1h", rules=RULES, final=True)
    assert np.array_equal(judged.rows, rows)
    assert judged.rejected.empty


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("Missing", {}, "has no class 'Missing', it has Bare, Down"),
        ("make", {}, "is a function, expected a class"),
        ("Whole", {"depth": 3}, r"Whole called with depth fails: TypeError"),
        ("Picky", {}, r"called with no options fails: TypeError(.|\n)*Picky\(folder\)"),
        ("Picky", {"folder": "there"}, "fails: FileNotFoundError: there"),
        ("Bare", {}, "lacks fetch_ohlcv, server_time, timeframes_of, fetch_funding_rates, concurrency"),
        ("Stub", {}, "lacks identity, fetch_ohlcv\n"),
        ("Nameless", {}, "identity of .* is ''"),
        ("Numbered", {}, "identity of .* is 7"),
        ("NotAMethod", {}, "lacks fetch_ohlcv\n"),
    ],
)
def test_what_is_no_market_source_is_refused(
    written: Callable[[str], str], name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ParameterError, match=message) as caught:
        load(f"{written(BROKEN)}.{name}", **options)
    assert str(caught.value.where).startswith("market.custom.")
    assert caught.value.fix


@pytest.mark.parametrize(
    ("loader", "message"),
    [
        (None, "no class is named"),
        ("MySource", "'MySource' is no dotted path"),
        ("my module.MySource", "is no dotted path"),
        ("no_such_package.sources.MySource", "ModuleNotFoundError: No module named 'no_such_package'"),
    ],
)
def test_a_loader_that_leads_nowhere_is_refused(loader: str | None, message: str) -> None:
    with pytest.raises(ParameterError, match=message) as caught:
        load(loader)
    assert caught.value.where == "market.custom.loader"


@pytest.mark.parametrize(
    ("code", "said"), [("import no_such_module", "No module named 'no_such_module'"), ("x = (", "SyntaxError")]
)
def test_a_module_that_fails_says_which_and_why(written: Callable[[str], str], code: str, said: str) -> None:
    name = written(code)
    with pytest.raises(ParameterError, match=f"module '{name}' can't be imported: .*{said}"):
        load(f"{name}.MySource")


def test_an_error_of_the_source_itself_is_passed_on(written: Callable[[str], str]) -> None:
    with pytest.raises(SourceError, match="the door is shut"):
        load(f"{written(BROKEN)}.Down")
