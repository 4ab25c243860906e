"""Challengers beside production: both accounts since the record began, and what it still lacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pandas as pd
import plotly.graph_objects as go

from mntrading.reporting import style
from mntrading.reporting.context import Section, table
from mntrading.reporting.evidence import Shadow
from mntrading.reporting.figures import equity_figure
from mntrading.reporting.formats import count, decimal, listed, moment, percent, plural

FIGURE: Final = "shadow"
PRODUCTION: Final = "Production"
CHALLENGERS: Final = "With challengers"
CAPTIONS: Final = {
    FIGURE: "Net return and drawdown of production's paper account, and of the same with challengers, since the "
    "record began.",
}
_TITLE: Final = "Challengers in shadow"
_RULES: Final = {
    "min_days": "Days of record",
    "min_trades": "Closed trades of each challenger",
    "min_return_gap": "Return above production's",
    "min_gap_errors": "Gap beyond chance",
    "max_drawdown": "Drawdown",
    "doubts": "Nothing in doubt",
}


def beside(record: Mapping[str, Any], equity: Mapping[str, pd.DataFrame], production: pd.DataFrame) -> Shadow:
    """A record with both accounts since it began.

    Parameters
    ----------
    record
        The record.
    equity
        The shadow's account by bar, a frame a day.
    production
        Production's account by bar.
    """
    since = pd.Timestamp(record["since"])
    days = [day for day in sorted(equity) if day >= f"{since:%Y-%m-%d}"]
    mine = pd.concat([equity[day]["equity"] for day in days]) if days else pd.Series(dtype="float64")
    both = pd.DataFrame({PRODUCTION: production["equity"], CHALLENGERS: mine}).dropna()
    return Shadow(record, both.loc[both.index >= since], "", trouble=False)


def shadow_section(shadow: Shadow) -> Section:
    """Challenger and champion side by side, and the rules of promotion."""
    record = shadow.record
    if record is None:
        why = " ".join(shadow.why.split())
        return Section("shadow", _TITLE, (f"No challenger is followed: {why}.",))
    found = record["figures"]
    broken = [_RULES[rule["name"]].lower() for rule in record["rules"] if not rule["holds"]]
    verdict = (
        "Every rule of promotion holds: kedro run --pipelines promote_challenger takes them in, "
        "promote_challenger_preview says what that changes."
        if record["ready"]
        else f"They may not be promoted yet; missing: {listed(broken)}."
    )
    said = (
        f"{_named(record)} Since {moment(record['since'])} UTC both accounts have differed by nothing else; the gap in "
        f"net return is {percent(found['gap'], 2)} in {decimal(found['n_days'], 1)} days.",
        verdict,
    )
    accounts = [
        (
            name,
            decimal(found["base"] * (1.0 + found[which])),
            percent(found[which], 2),
            percent(found[f"{which}_drawdown"], 2),
            count(found[f"n_trades_{which}"]),
        )
        for name, which in ((PRODUCTION, "champion"), (CHALLENGERS, "challenger"))
    ]
    rules = [(_RULES[rule["name"]], "kept" if rule["holds"] else "missing", rule["words"]) for rule in record["rules"]]
    columns = ("Account", "#Equity", "#Net return", "#Max drawdown", "#Closed trades")
    return Section(
        "shadow",
        _TITLE,
        said,
        figures=(FIGURE,) if _has_traded(shadow) else (),
        tables=(
            *table("Side by side", columns, accounts, note="Paper accounts, after costs; equity in quote currency."),
            *table("Rules of promotion", ("Rule", "State", "Record"), rules),
        ),
    )


def shadow_figures(shadow: Shadow, *, max_points: int) -> dict[str, go.Figure]:
    """Both accounts' equity and drawdown, once one has traded."""
    if shadow.record is None or not _has_traded(shadow):
        return {}
    step = shadow.equity.index[1] - shadow.equity.index[0]
    base = shadow.record["figures"]["base"]
    first = pd.DataFrame(base, index=shadow.equity.index[:1] - step, columns=shadow.equity.columns)
    figure = equity_figure(pd.concat([first, shadow.equity]), [], max_points=max_points)
    for trace in figure.data:
        trace.line.update(color=style.ROSTER if trace.name == CHALLENGERS else style.CHAMPIONS, width=1.4)
    return {FIGURE: figure.update_yaxes(tickformat=".2~%")}


def _has_traded(shadow: Shadow) -> bool:
    return len(shadow.equity) > 1 and bool((shadow.equity.max() > shadow.equity.min()).any())


def _named(record: Mapping[str, Any]) -> str:
    """Who is on trial, and whose place each would take."""
    trades = record["figures"]["trades"]
    told = []
    for pair_id in record["challengers"]:
        instead = record["replaced"].get(pair_id)
        place = f", in place of {listed(instead)}" if instead else ""
        told.append(f"{pair_id} ({plural(trades[pair_id], 'closed trade')}{place})")
    return f"On trial: {listed(told)}."
