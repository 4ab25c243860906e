"""The sums all pairs share, against sums taken one by one; arithmetic in lanes."""

from __future__ import annotations

import numpy as np
import pytest

from mntrading.core.compiled import compiled
from mntrading.core.lanes import WIDTH, fma, fnma, load, root, splat, store, where_less
from mntrading.core.moments import LAGGED, LAST, SQUARES, TOTAL, Blocks, CrossSums, gram, panel_of
from mntrading.core.residual_tests import _lowest


def lagged(u: np.ndarray, v: np.ndarray, lag: int) -> float:
    """Σ du_t·dv_{t-lag}."""
    du, dv = np.diff(u), np.diff(v)
    return float(du[lag:] @ dv[: len(dv) - lag])


def walks(n_bars: int, n: int) -> np.ndarray:
    return 5.0 + np.random.default_rng(n_bars + n).normal(size=(n_bars, n)).cumsum(axis=0)


@pytest.mark.parametrize(("n_bars", "n_lags"), [(3, 1), (5, 2), (21, 10), (64, 12), (300, 7), (1440, 25), (2000, 38)])
def test_sums_of_panels_are_those_taken_one_by_one(n_bars, n_lags):
    first, second = walks(n_bars, 5), walks(n_bars, 18)
    blocks = Blocks.cheapest(n_bars, n_lags)
    rows, columns = panel_of(first, "c", blocks), panel_of(second, "c", blocks)
    u, v = first - first.mean(axis=0), second - second.mean(axis=0)
    np.testing.assert_allclose(gram(rows, columns)[:5, :18], u.T @ v, atol=1e-9 * n_bars)
    cross = CrossSums(blocks)
    cross(columns, columns)
    found = cross(rows, columns)
    scale = 1e-12 * n_bars
    for lag in range(n_lags):
        for i, j in ((0, 0), (4, 17), (2, 9)):
            expected = lagged(u[:, i], v[:, j], lag) + lagged(v[:, j], u[:, i], lag)
            assert found[lag, i, j] == pytest.approx(expected, rel=1e-12, abs=scale)
        for j in (0, 7, 8, 17):
            assert columns.series[LAGGED + lag, j] == pytest.approx(lagged(v[:, j], v[:, j], lag), rel=1e-12, abs=scale)
    np.testing.assert_allclose(columns.series[LAST, :18], v[-1], rtol=1e-12, atol=1e-12)
    ends = columns.series[LAGGED + n_lags :, :18].reshape(-1, 18)
    steps = np.diff(v, axis=0, prepend=v[:1])
    for part, expected in enumerate((v[:n_lags], steps[:n_lags], steps[::-1][:n_lags])):
        np.testing.assert_allclose(ends[part * n_lags : (part + 1) * n_lags], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("trend", "degree"), [("n", None), ("c", 0), ("ct", 1)])
def test_trend_is_taken_out_of_each_series(trend, degree):
    values = walks(200, 20) + 0.3 * np.arange(200)[:, None]
    values[:, 7] = 3.0
    panel = panel_of(values, trend, Blocks.cheapest(200, 5))
    time = np.arange(1.0, 201.0)
    for j in range(20):
        fit = np.zeros(200) if degree is None else np.polyval(np.polyfit(time, values[:, j], degree), time)
        rest = values[:, j] - fit
        np.testing.assert_allclose(panel.levels[:, j], rest, atol=1e-9)
        assert panel.series[SQUARES, j] == pytest.approx(rest @ rest, rel=1e-9, abs=1e-15)
        about = values[:, j] - (0.0 if trend == "n" else values[:, j].mean())
        assert panel.series[TOTAL, j] == pytest.approx(about @ about, rel=1e-9, abs=1e-15)
        at_zero = 0.0 if degree is None else np.polyval(np.polyfit(time, values[:, j], degree), 0.0 if degree else 1.0)
        assert panel.level[j] == pytest.approx(at_zero, abs=1e-8)
    assert panel.testable.tolist() == [j != 7 for j in range(20)] + [False] * 12


def test_panel_with_itself_has_what_is_above_the_diagonal():
    values = walks(120, 40)
    blocks = Blocks.cheapest(120, 6)
    panel, twin = panel_of(values, "c", blocks), panel_of(values, "c", blocks)
    above = np.triu_indices(40, 1)
    np.testing.assert_array_equal(gram(panel, panel)[above], gram(panel, twin)[above])
    own, other = CrossSums(blocks)(panel, panel), CrossSums(blocks)(panel, twin)
    np.testing.assert_array_equal(own[:6, *above], other[:6, *above])


@pytest.mark.parametrize(
    ("rss", "ranks", "lag"),
    [([2.0, 1.0, 1.0], [1, 2, 2], 1), ([0.0, 0.0, 0.0], [1, 1, 1], 0), ([2.0, 2.0, 1.0], [1, 2, 3], 2)],
)
def test_equally_good_numbers_of_lags_give_the_smaller(rss, ranks, lag):
    assert _lowest(np.array(rss), np.array(ranks), 50, 1) == lag


@compiled
def _every_operation(a: np.ndarray, out: np.ndarray) -> None:
    x, y, z = load(a, 0), load(a, WIDTH), load(a, 2 * WIDTH)
    store(out, 0, x + y)
    store(out, WIDTH, x - y)
    store(out, 2 * WIDTH, x * y)
    store(out, 3 * WIDTH, x / y)
    store(out, 4 * WIDTH, fma(x, y, z))
    store(out, 5 * WIDTH, fnma(x, y, z))
    store(out, 6 * WIDTH, root(y))
    store(out, 7 * WIDTH, where_less(x, y, z, splat(7.0)))


def test_lanes_calculate_as_numbers_do():
    x, y, z = values = np.random.default_rng(0).uniform(0.5, 2.0, (3, WIDTH))
    x[3] = np.nan
    out = np.zeros((8, WIDTH))
    _every_operation(values.ravel(), out.ravel())
    expected = (x + y, x - y, x * y, x / y, x * y + z, z - x * y, np.sqrt(y), np.where(x < y, z, 7.0))
    np.testing.assert_allclose(out, expected, rtol=1e-15, atol=1e-15)
