"""What is wrong with the pairs in production, in figures against limits, in words, and in what it means for orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from mntrading.core.drift import Drift, Reliability
from mntrading.core.relation import Relation
from mntrading.params import CheckKind, MonitoringParams

Level = Literal["ok", "warning", "reducing"]
KillSwitch = Literal["active", "reducing", "halted"]

_STRICTNESS: Final[tuple[KillSwitch, ...]] = ("active", "reducing", "halted")
_NAMED: Final = 3  # worst features that a warning names


@dataclass(frozen=True)
class Check:
    """One figure against its limit.

    Parameters
    ----------
    kind
        What it is about: the parameter that lets breaches reduce names kinds.
    name
        What the figure is.
    value, limit
        The figure and the last value that is all right; NaN for a figure that is not known.
    breached
        Whether that calls for a warning. A figure that can't be known yet is no breach, one that should be known is.
    words
        The warning, or why nothing can be said; empty where all is well.
    """

    kind: CheckKind
    name: str
    value: float
    limit: float
    breached: bool
    words: str = ""


@dataclass(frozen=True)
class Observed:
    """What was measured of one pair at one bar close.

    Parameters
    ----------
    age_bars
        Age of the newest trading bar that both legs have; None where there is none.
    doubts
        Why the pair's model can't be asked or compared, in words; None for a pair without a model.
    features, scores
        Drift of every feature by name, and of the model's answers; empty and None where they can't be compared.
    calibration
        None where the model can't be asked.
    before, now
        The relation over the formation window, and over as long a window up to now.
    known
        Share of the newest window's bars that both legs have.
    half_life_ratio
        Half-life now over that at formation.
    break_p
        ``core.relation.break_p_value`` with the hedge ratio of the formation window.
    """

    age_bars: int | None
    doubts: tuple[str, ...] | None
    features: Mapping[str, Drift]
    scores: Drift | None
    calibration: Reliability | None
    before: Relation
    now: Relation
    known: float
    half_life_ratio: float
    break_p: float


def checks_of(found: Observed, params: MonitoringParams) -> list[Check]:
    """Every figure of a pair against its limit, the most elementary first."""
    out = [_age_check(found.age_bars, params)]
    if found.doubts is not None:
        words = "; ".join(found.doubts)
        out.append(Check("model", "doubts about the model", len(found.doubts), 0.0, bool(found.doubts), words))
    out += _drift_checks("drift", "drifted features", found.features, params)
    answers = {} if found.scores is None else {"probability": found.scores}
    out += _drift_checks("scores", "drifted answers of the model", answers, params)
    if found.calibration is not None:
        out += _calibration_checks(found.calibration, params)
    return out + _relation_checks(found, params)


def _age_check(age_bars: int | None, params: MonitoringParams) -> Check:
    limit = params.max_data_age_bars
    late = age_bars is None or age_bars > limit
    old = f"bars are {age_bars} {'bar' if age_bars == 1 else 'bars'} old, limit {limit}"
    words = "no bars" if age_bars is None else old
    value = float("nan") if age_bars is None else float(age_bars)
    return Check("data", "age of the data, bars", value, limit, late, words if late else "")


def drifted(columns: Mapping[str, Drift], params: MonitoringParams) -> dict[str, Drift]:
    """The columns that have drifted: index above ``max_psi``, and a distance with a p-value of at most ``level``.

    The level is shared among the columns (Bonferroni): a pair of which nothing has changed is warned about with that
    chance at most. Of columns with fewer than ``min_independent`` independent rows nothing is said.
    """
    told = {name: one for name, one in columns.items() if one.n_independent >= params.min_independent}
    rule = params.drift
    return {name: one for name, one in told.items() if one.psi > rule.max_psi and one.p_value * len(told) <= rule.level}


def _drift_checks(kind: CheckKind, name: str, columns: Mapping[str, Drift], params: MonitoringParams) -> list[Check]:
    if not columns:
        return []
    far = drifted(columns, params)
    slow = sum(one.n_independent < params.min_independent for one in columns.values())
    words = _drift_words(kind, far, params) if far else _untold(slow, len(columns), params)
    value = float("nan") if slow == len(columns) else float(len(far))
    return [Check(kind, name, value, 0.0, bool(far), words)]


def _untold(n: int, among: int, params: MonitoringParams) -> str:
    """Columns of which nothing can be said yet, in words; empty where there are none."""
    few = f"fewer than {params.min_independent:g} independent rows since the formation window"
    if n == among:
        return f"too early: {few}"
    return f"{n} of {among} change too slowly to tell yet: {few}" if n else ""


def _drift_words(kind: str, far: Mapping[str, Drift], params: MonitoringParams) -> str:
    by_psi = sorted(far, key=lambda name: (-far[name].psi, name))
    told = ", ".join(f"{name} PSI {far[name].psi:.2f}" for name in by_psi[:_NAMED])
    more = f" and {len(by_psi) - _NAMED} more" if len(by_psi) > _NAMED else ""
    what = "features drifted" if kind == "drift" else "the model's answers drifted"
    return f"{what}: {told}{more}, limit {params.drift.max_psi:g}"


def _calibration_checks(found: Reliability, params: MonitoringParams) -> list[Check]:
    """Right on average, and better than the base rate of the formation window."""
    rule = params.calibration
    gap, worse_by = "share of ones less mean probability", "Brier score worse than the base rate's, errors"
    if found.n_independent < params.min_independent:
        early = f"too early: fewer than {params.min_independent:g} independent labels are complete"
        nan = float("nan")
        return [
            Check("calibration", gap, nan, rule.max_gap, False, early),
            Check("calibration", worse_by, nan, rule.max_errors, False, early),
        ]
    off = abs(found.gap) > rule.max_gap and abs(found.gap) > rule.max_errors * found.gap_error
    worse = _errors(-found.gain, found.gain_error)
    told = (
        f"probabilities are off: mean {found.predicted:.2f}, came true {found.observed:.2f}, "
        f"standard error {found.gap_error:.2f}, limit {rule.max_gap:g}"
    )
    lost = (
        f"probabilities are worse than the base rate: Brier score {found.brier:.3f} against {found.brier_base:.3f}, "
        f"{worse:.1f} standard errors, limit {rule.max_errors:g}"
    )
    return [
        Check("calibration", gap, found.gap, rule.max_gap, off, told if off else ""),
        Check("calibration", "Brier score worse than the base rate's, errors", worse, rule.max_errors,
              worse > rule.max_errors, lost if worse > rule.max_errors else ""),
    ]  # fmt: skip


def _errors(value: float, error: float) -> float:
    return value / error if error > 0 else 0.0


def _relation_checks(found: Observed, params: MonitoringParams) -> list[Check]:
    rule, before, now = params.relation, found.before, found.now
    if found.known < rule.min_known:
        few = (
            f"the relation can't be tested: {found.known:.0%} of the newest window's bars are there, "
            f"{rule.min_known:.0%} needed"
        )
        return [Check("relation", "share of bars known", found.known, rule.min_known, True, few)]
    drift = abs(now.hedge_ratio / before.hedge_ratio - 1.0) if before.hedge_ratio else float("nan")
    figures = (
        ("Engle–Granger p", now.p_value, rule.max_p_value, f"cointegration is not seen any more: p {now.p_value:.2f}"),
        ("half-life over that at formation", found.half_life_ratio, rule.max_half_life_ratio,
         f"half-life is {found.half_life_ratio:.1f} times that at formation"),
        ("drift of the hedge ratio", drift, rule.max_hedge_ratio_drift,
         f"hedge ratio is {now.hedge_ratio:.2f}, {before.hedge_ratio:.2f} at formation: drift {drift:.2f}"),
        ("break monitor p", found.break_p, rule.max_break_p_value,
         f"the spread with the hedge ratio of formation does not revert any more: p {found.break_p:.2f}"),
    )  # fmt: skip
    return [_upper(name, value, limit, words) for name, value, limit, words in figures]


def _upper(name: str, value: float, limit: float, words: str) -> Check:
    """A figure of the relation; one that is not known is a breach, because the bars to know it are there."""
    if np.isnan(value):
        return Check("relation", name, value, limit, True, f"{name} is not known")
    if np.isinf(value):
        words = "the residual of the newest window does not revert"
    return Check("relation", name, value, limit, value > limit, f"{words}, limit {limit:g}" if value > limit else "")


def verdict(pairs: Mapping[str, Sequence[Check]], params: MonitoringParams) -> tuple[Level, str]:
    """Overall level and the reason for it.

    ``reducing`` when ``may_reduce`` and at least ``min_share`` of the pairs have a breach of a kind in ``kinds``;
    ``warning`` when any pair has any breach.
    """
    rule = params.reducing
    bad = sorted(id_ for id_, checks in pairs.items() if any(check.breached for check in checks))
    grave = sorted(
        id_ for id_, checks in pairs.items() if any(check.breached and check.kind in rule.kinds for check in checks)
    )
    if rule.may_reduce and grave and len(grave) >= rule.min_share * len(pairs):
        kinds = sorted({c.kind for id_ in grave for c in pairs[id_] if c.breached and c.kind in rule.kinds})
        return (
            "reducing",
            f"{len(grave)} of {len(pairs)} pairs breach a limit of {', '.join(kinds)}: {', '.join(grave)}",
        )
    if bad:
        return "warning", f"{len(bad)} of {len(pairs)} pairs have warnings: {', '.join(bad)}"
    return "ok", "" if pairs else "no pair is in production"


def effective_kill_switch(configured: KillSwitch, level: Level, reason: str) -> tuple[KillSwitch, str]:
    """The stricter of the configured kill switch and what monitoring asks for, and why; never a looser one."""
    if level == "reducing" and _STRICTNESS.index(configured) < _STRICTNESS.index("reducing"):
        return "reducing", f"monitoring: {reason}"
    return configured, "" if configured == "active" else f"portfolio.kill_switch is {configured}"
