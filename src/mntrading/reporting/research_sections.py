"""What was found: champions, screens and models, in plain words where there are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mntrading.core.roster import RosterFold
from mntrading.reporting.context import Section, Table, table
from mntrading.reporting.evidence import Research
from mntrading.reporting.formats import (
    MISSING,
    chance,
    count,
    day,
    decimal,
    listed,
    moment,
    p_value,
    percent,
    plural,
)
from mntrading.reporting.performance_sections import OUT_OF_SAMPLE

_FULL_CYCLE = "kedro run --pipelines full_cycle"
_SELECTED = "selected"
_TESTED = "tested"
_NOT_SIGNIFICANT = "not significant"
_ADJUSTMENTS = {
    "bh": "the Benjamini–Hochberg adjustment",
    "by": "the Benjamini–Yekutieli adjustment",
    "bonferroni": "the Bonferroni adjustment",
    "none": "the test without adjustment for multiple testing",
}


def next_step(research: Research) -> Section:
    """The command to run next."""
    n = len(research.champions)
    if n:
        text = (
            "A research run places no orders and changes nothing in production.",
            f"{plural(n, 'pair')} may be promoted: {listed(research.champions)}. To promote, compute signals and get "
            f"orders: {_FULL_CYCLE}",
        )
    else:
        text = ("There is nothing to trade and nothing to promote.", why_no_champion(research))
    return Section("now", "What to do now", text)


def why_no_champion(research: Research) -> str:
    """Why no pair may be traded, with the nearest miss."""
    live = research.roster.live
    if not live.pairs:
        return _why_no_pair(research, live)
    return f"No pair on the live roster is a champion. {research.registry['explanation']}."


def _why_no_pair(research: Research, entry: RosterFold) -> str:
    screen = research.screens[entry.fold.name]
    n = screen["n_tests"]
    if n == 0:
        stopped = [f"{why} ({k})" for why, k in screen["universe_funnel"].items() if k and why != "passed"]
        return (
            f"No pair was tested: {plural(screen['n_symbols'], 'symbol')} passed the universe rules, two are needed. "
            f"Stopped: {listed(stopped) or 'none, there are no more symbols'}."
        )
    stops = listed([f"{why} ({k})" for why, k in _gates(screen["funnel"]).items()])
    if research.screening.select == "top_k":
        return f"None of the {research.screening.top_k} best of {plural(n, 'pair')} passes every gate: {stops}."
    significant = n - screen["funnel"].get(_NOT_SIGNIFICANT, 0)
    how = f"{_ADJUSTMENTS[research.screening.adjustment]} at {percent(research.screening.level, 0)}"
    if significant:
        return f"{significant} of {plural(n, 'pair')} pass {how}, and all stop at a later gate: {stops}."
    return f"0 of {plural(n, 'pair')} pass {how}; nearest: {_nearest(screen)}."


def _nearest(screen: Mapping[str, Any], n: int = 3) -> str:
    misses = sorted(
        (row for row in screen["pairs"] if row["verdict"] != _SELECTED),
        key=lambda row: (row["p_adjusted"], row["pair_id"]),
    )
    if not misses:
        return "not recorded (screening.n_reported is 0)"
    return "; ".join(_miss(row) for row in misses[:n])


def _miss(row: Mapping[str, Any]) -> str:
    why = "" if row["reason"] == _NOT_SIGNIFICANT else f", {row['reason']}"
    return f"{row['pair_id']} (adjusted p {p_value(row['p_adjusted'])}{why})"


def _gates(funnel: Mapping[str, int]) -> dict[str, int]:
    return {why: n for why, n in funnel.items() if why not in (_TESTED, _NOT_SIGNIFICANT, _SELECTED)}


def pairs_section(research: Research) -> Section:
    """Champions and rejected pairs of the live roster."""
    judged = [*research.registry["champions"], *research.registry["rejected"]]
    rows = [_judged_row(entry) for entry in judged]
    names = {entry["pair_id"] for entry in judged}
    rows += [_left_row(line) for line in research.summary["pairs"] if line["pair_id"] not in names]
    n = len(research.champions)
    if not rows:
        text: tuple[str, ...] = (_why_no_pair(research, research.roster.live),)
    elif n:
        text = (f"{plural(n, 'champion')} of {plural(len(judged), 'pair')} on the live roster.",)
    else:
        text = (why_no_champion(research),)
    columns = (
        "Pair", "Verdict", "#Windows", "#Trades", "#Net P&L", "#Costs", "#Sharpe", "#Deflated", "#Drawdown", "Reasons",
    )  # fmt: skip
    note = (
        "P&L, costs and drawdown as fractions of the pair's notional, summed over its trading windows. Deflated: "
        "probability that the Sharpe ratio is more than the luck of the best of "
        f"{plural(research.registry['n_trials'], 'strategy', 'strategies')} tried. A challenger lacks nothing but "
        "evidence or a place."
    )
    found = table(f"Pairs, {OUT_OF_SAMPLE}", columns, rows, limit=research.reporting.n_table_rows, note=note)
    return Section("pairs", "Pairs and champions", text, figures=("pair",), tables=found)


def _judged_row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    figures = entry["figures"]
    return (
        entry["pair_id"],
        "champion" if entry["champion"] else "challenger" if entry["challenger"] else "rejected",
        count(figures.get("n_windows", 0.0)),
        count(figures.get("n_trades", 0.0)),
        percent(figures.get("net_pnl")),
        percent(figures.get("costs")),
        decimal(figures.get("sharpe")),
        chance(figures.get("deflated_sharpe")),
        percent(figures.get("max_drawdown")),
        "; ".join(entry["reasons"]) or "passes every rule",
    )


def _left_row(line: Mapping[str, Any]) -> tuple[str, ...]:
    known = (count(line["n_windows"]), count(line["n_trades"]), percent(line["net_pnl"]), percent(line["costs"]))
    return (line["pair_id"], "left", *known, MISSING, MISSING, MISSING, "not on the live roster")


def screening_section(research: Research) -> Section:
    """What the screen tested, and where pairs stopped."""
    live = research.roster.live
    screen = research.live_screen
    n = screen["n_tests"]
    how = f"{_ADJUSTMENTS[research.screening.adjustment]} at {percent(research.screening.level, 0)}"
    text = [
        f"Live formation window {day(live.fold.formation_start)} to {day(live.fold.formation_end)}: "
        f"{plural(n, 'pair')} of {plural(screen['n_symbols'], 'symbol')} tested with {how}, "
        f"{plural(len(live.pairs), 'pair')} on the roster."
    ]
    if not live.pairs:
        text.append(_why_no_pair(research, live))
    else:
        text.append(f"Nearest misses: {_nearest(screen)}.")
        if live.entered or live.left:
            before = research.roster.live_before
            since = "the fold before" if before is None else f"the run of {moment(before.as_of)}"
            text.append(f"Came since {since}: {listed(live.entered) or 'none'}. Left: {listed(live.left) or 'none'}.")
    roster = [
        (
            row.pair.id,
            p_value(row.p_adjusted),
            decimal(row.beta),
            decimal(row.half_life_hours, 1),
            "champion" if row.pair.id in research.champions else "rejected",
        )
        for row in live.pairs
    ]
    columns = ("Pair", "#Adjusted p", "#Hedge ratio", "#Half-life, hours", "Verdict")
    return Section(
        "screening",
        "Screening and roster",
        tuple(text),
        figures=("screening_heat_map", "pair_network"),
        tables=(
            *table("Live roster", columns, roster, limit=research.reporting.n_table_rows),
            *_funnels(research),
        ),
    )


def _funnels(research: Research) -> tuple[Table, ...]:
    rows = []
    for entry in research.roster.folds:
        screen = research.screens[entry.fold.name]
        funnel = screen["funnel"]
        rows.append(
            (
                entry.fold.name,
                day(entry.fold.formation_start),
                day(entry.fold.formation_end),
                count(screen["n_symbols"]),
                count(funnel[_TESTED]),
                count(funnel.get(_NOT_SIGNIFICANT, 0)),
                "; ".join(f"{why} ({n})" for why, n in _gates(funnel).items()) or "none",
                count(funnel[_SELECTED]),
                count(len(entry.entered)),
                count(len(entry.left)),
            )
        )
    columns = (
        "Fold", "Formation from", "To", "#Symbols", "#Tested", "#Not significant", "Stopped later", "#Roster",
        "#Came", "#Left",
    )  # fmt: skip
    return table("Screening funnel of each fold", columns, rows)


def models_section(research: Research) -> Section:
    """Skill of the models, out of sample and in cross-validation."""
    scores = research.scores
    groups = scores["cross_validated"]
    title = "Models"
    if not groups:
        return Section("models", title, ("No model was trained: no fold has a pair to learn from.",))
    rows = []
    for entry in research.roster.folds:
        mine = {id_: fit for id_, fit in groups.items() if id_.split("/", 1)[0] == entry.fold.name}
        rows.append(_model_row(entry, mine, scores["out_of_sample"].get(entry.fold.name)))
    without = sorted(id_ for id_, fit in groups.items() if fit["reason"])
    total = scores["total"]
    text = [
        f"{plural(len(groups) - len(without), 'model')} of {len(groups)} were good enough to be used. Where there is "
        "none, the z rule decides alone. A model is kept only if it beats the base rate's log loss inside the "
        "formation window; the columns beside show what it was worth in the trading window after it."
    ]
    if len(without) == len(groups):
        text.append("No fold has a model: none beat the base rate.")
    if total["roc_auc"] is not None:
        text.append(
            f"Over all trading windows with a model: AUC {decimal(total['roc_auc'], 3)}, lift {decimal(total['lift'])} "
            f"over a base rate of {percent(total['base_rate'])}, {plural(int(total['n_rows']), 'row')}. How far z is "
            "out tells part of how it comes back on random walks too: an AUC above 0.5 alone earns nothing."
        )
    columns = (
        "Fold", "Model", "#AUC cross-validated", "#AUC out of sample", "#Lift cross-validated", "#Lift out of sample",
        "#Base rate", "#Rows out of sample",
    )  # fmt: skip
    note = (
        "Lift is average precision over the base rate; 1 is no skill. The base rate is that of the trading window, or "
        "of the formation window where there is none yet. Rows overlap in time: they are worth less than their count."
    )
    return Section(
        "models",
        title,
        tuple(text),
        figures=("calibration", "importance"),
        tables=table("Model scores", columns, rows, note=note),
    )


def _model_row(
    entry: RosterFold, groups: Mapping[str, Mapping[str, Any]], outside: Mapping[str, Any] | None
) -> tuple[str, ...]:
    kept = [best for fit in groups.values() if (best := _chosen(fit)) is not None]
    reasons = sorted({str(fit["reason"]) for fit in groups.values() if fit["reason"]})
    if not groups:
        said = "none: no pair on the roster"
    elif not kept:
        said = f"none: {'; '.join(reasons)}"
    elif len(groups) == 1:
        said = str(kept[0]["model"]).replace("_", " ")
    else:
        said = f"{len(kept)} of {len(groups)} groups"
    rest = outside or {}
    return (
        entry.fold.name,
        said,
        decimal(_mean(kept, "roc_auc"), 3),
        "not yet" if entry.fold.is_live and kept else decimal(rest.get("roc_auc"), 3),
        decimal(_mean(kept, "lift")),
        "not yet" if entry.fold.is_live and kept else decimal(rest.get("lift")),
        percent(rest.get("base_rate") if rest.get("base_rate") is not None else _mean(kept, "base_rate")),
        count(rest.get("n_rows")),
    )


def _chosen(fit: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Scores of the candidate that was refitted and used."""
    return next((row for row in fit["candidates"] if row["model"] == fit["chosen"]), None)


def _mean(rows: Sequence[Mapping[str, Any]], key: str) -> float | None:
    """Mean over groups, weighted by rows."""
    known = [(row[key], row["n_rows"]) for row in rows if row[key] is not None]
    weight = sum(n for _, n in known)
    return sum(value * n for value, n in known) / weight if weight else None
