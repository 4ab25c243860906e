"""The screen as figures: what is shown, marked, left out and said, for few symbols and for many."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from mntrading.core.types import Pair
from mntrading.reporting.screen_figures import (
    N_STOPPED,
    N_SYMBOLS,
    Network,
    heat_map_caption,
    heat_map_figure,
    network_caption,
    network_figure,
    screen_figures,
)

LEVEL = 0.05


def row(a, b, verdict="rejected", reason="half-life too long", *, p=0.001, significant=True, liquidity=1e6):
    pair = Pair(f"{a}/USDT", f"{b}/USDT")
    return {
        "pair_id": pair.id, "dependent": pair.dependent, "independent": pair.independent, "p_adjusted": p,
        "half_life_hours": 6.0, "liquidity": liquidity, "significant": significant, "verdict": verdict,
        "reason": "" if verdict == "selected" else reason,
    }  # fmt: skip


def all_tests(n, strong=()):
    """Every pair of n symbols, those of ``strong`` with their p-values."""
    names = [f"S{i:03d}/USDT" for i in range(n)]
    found = pd.DataFrame(
        [(a, b, 0.9) for i, a in enumerate(names) for b in names[i + 1 :]],
        columns=["dependent", "independent", "p_adjusted"],
    )
    for (a, b), p in dict(strong).items():
        found.loc[(found["dependent"] == names[a]) & (found["independent"] == names[b]), "p_adjusted"] = p
    return found


def heat_map(tests, pairs=(), level=LEVEL):
    figure = heat_map_figure(tests, pairs, level=level)
    return figure, figure.data[0]


def named(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


# ------------------------------------------------------------------------------------------ heat map


@pytest.mark.parametrize("n", [2, 3, 8, 30])
def test_every_pair_of_few_symbols_has_one_cell(n):
    _, heat = heat_map(all_tests(n))
    assert np.isfinite(np.asarray(heat.z, dtype=float)).sum() == n * (n - 1) / 2
    assert len({*heat.x, *heat.y}) == n


@pytest.mark.parametrize("n", [100, 404])
def test_heat_map_of_many_symbols_shows_those_with_the_strongest_evidence(n):
    tests = all_tests(n, {(58, 59): 1e-9})
    _, heat = heat_map(tests)
    assert len({*heat.x, *heat.y}) == N_SYMBOLS
    assert {"S058", "S059"} <= {*heat.x, *heat.y}
    assert f"{N_SYMBOLS} of {n} symbols" in heat_map_caption(tests)


def test_symbols_of_the_roster_are_shown_before_stronger_ones_that_a_gate_stopped():
    strong = {(a, a + 1): 1e-9 for a in range(0, 60, 2)}
    tests = all_tests(64, {**strong, (62, 63): 0.04})
    _, heat = heat_map(tests, [row("S062", "S063", "selected", p=0.04)])
    assert {"S062", "S063"} <= {*heat.x, *heat.y}


def test_symbols_that_pair_with_each_other_stand_together():
    group = (0, 7, 14, 21)
    strong = {(a, b): 1e-6 for i, a in enumerate(group) for b in group[i + 1 :]}
    _, heat = heat_map(all_tests(28, strong))
    order = [heat.x[0], *heat.y]
    at = sorted(order.index(f"S{symbol:03d}") for symbol in group)
    assert at == list(range(at[0], at[0] + 4))


def test_each_cell_is_the_pair_of_its_row_and_column():
    tests = all_tests(12)
    tests["p_adjusted"] = np.random.default_rng(1).uniform(size=len(tests)).round(3)
    known = {
        frozenset(name.removesuffix("/USDT") for name in legs): p
        for *legs, p in tests.itertuples(index=False, name=None)
    }
    _, heat = heat_map(tests)
    for y, line in zip(heat.y, np.array(heat.customdata, dtype=float), strict=True):
        for x, p in zip(heat.x, line, strict=True):
            assert np.isnan(p) or p == pytest.approx(known[frozenset((x, y))])


def test_roster_and_stopped_pairs_have_marks_of_their_own():
    pairs = [row("S000", "S001", "selected"), row("S002", "S003"), row("S004", "S005", significant=False)]
    figure, _ = heat_map(all_tests(8, {(0, 1): 0.001, (2, 3): 0.002}), pairs)
    marked = {trace.name: {frozenset(cell) for cell in zip(trace.x, trace.y, strict=True)} for trace in figure.data[1:]}
    assert marked == {
        "on the roster": {frozenset(("S000", "S001"))},
        "significant, stopped at a gate": {frozenset(("S002", "S003"))},
    }
    assert "stopped: half-life too long" in named(figure, "significant, stopped at a gate").text[0]


def test_a_selected_pair_that_is_not_significant_is_marked_and_says_so():
    pair = row("S000", "S001", "selected", p=0.4, significant=False)
    figure, _ = heat_map(all_tests(4, {(0, 1): 0.4}), [pair])
    assert "not significant" in named(figure, "on the roster").text[0]


def test_blue_begins_at_the_level():
    _, heat = heat_map(all_tests(6, {(0, 1): 1e-5}))
    steps = [at for at, _ in heat.colorscale]
    assert steps[1] == steps[2] == pytest.approx(-np.log10(LEVEL) / heat.zmax)
    assert "0.05" in heat.colorbar.ticktext


@pytest.mark.parametrize("level", [0.0, 1e-12, 1.0])
def test_a_level_beyond_the_scale_does_not_break_it(level):
    _, heat = heat_map(all_tests(4, {(0, 1): 1e-5}), level=level)
    steps = [at for at, _ in heat.colorscale]
    assert steps == sorted(steps)
    assert (steps[0], steps[-1]) == (0, 1)


def test_a_zero_p_value_does_not_break_the_scale():
    _, heat = heat_map(pd.DataFrame({"dependent": ["A/X"], "independent": ["B/X"], "p_adjusted": [0.0]}))
    assert np.nanmax(np.asarray(heat.z, dtype=float)) == heat.zmax


def test_a_pair_without_a_p_value_is_an_empty_cell():
    tests = all_tests(3)
    tests.loc[0, "p_adjusted"] = np.nan
    _, heat = heat_map(tests)
    assert np.isfinite(np.asarray(heat.z, dtype=float)).sum() == 2


def test_symbols_of_two_quote_currencies_stay_apart():
    _, heat = heat_map(pd.DataFrame({"dependent": ["A/X"], "independent": ["A/Y"], "p_adjusted": [0.5]}))
    assert [*heat.x, *heat.y] == ["A/X", "A/Y"]


# ------------------------------------------------------------------------------------------- network


def crowd(n_symbols=90, n_pairs=400):
    """Twenty pairs on the roster and hundreds that were stopped."""
    names = [f"C{i}" for i in range(n_symbols)]
    selected = [row(names[2 * k], names[2 * k + 1], "selected", p=1e-4) for k in range(15)]
    several = [(a, b) for step in range(3, 9) for a, b in zip(names, names[step:], strict=False)][:n_pairs]
    return selected + [row(a, b, p=0.001 + k / 1e5) for k, (a, b) in enumerate(several)]


def test_every_selected_pair_is_drawn_and_stopped_ones_up_to_the_limits():
    pairs = crowd()
    network = Network.of(pairs)
    assert len(network.selected) == 15
    assert len(network.symbols) <= N_SYMBOLS
    assert 0 < len(network.stopped) <= N_STOPPED
    assert network.n_hidden == len(pairs) - 15 - len(network.stopped)
    assert f"{network.n_hidden} more stopped pairs not shown" in network_caption(network)


def test_a_network_that_shows_all_does_not_speak_of_more():
    assert "not shown" not in network_caption(Network.of([row("A", "B", "selected"), row("C", "D")]))


def test_pairs_that_are_neither_selected_nor_significant_are_not_drawn():
    network = Network.of([row("A", "B", significant=False, reason="not significant")])
    assert network == Network((), (), (), 0)


def test_a_crowded_network_is_small_and_its_nodes_keep_apart():
    figure = network_figure(Network.of(crowd()))
    nodes = figure.data[-1]
    places = np.column_stack([nodes.x, nodes.y])
    apart = np.linalg.norm(places[:, None] - places[None, :], axis=2)[np.triu_indices(len(places), 1)]
    assert apart.min() > max(nodes.marker.size)
    assert len(figure.to_json()) < 80_000
    assert figure.layout.height < 1200


def test_selected_lines_are_thick_and_stopped_ones_thin_with_their_reason():
    figure = network_figure(Network.of([row("A", "B", "selected"), row("B", "C", reason="hedge ratio drifts")]))
    thick, thin = named(figure, "on the roster"), named(figure, "significant, stopped at a gate")
    assert thick.line.width > 2 * thin.line.width
    assert thick.line.color != thin.line.color
    said = [text for trace in figure.data if trace.text is not None for text in trace.text]
    assert any("stopped: hedge ratio drifts" in text for text in said)


def test_lines_end_at_the_nodes_of_their_pair():
    figure = network_figure(Network.of([row("A", "B", "selected")]))
    nodes, line = figure.data[-1], named(figure, "on the roster")
    places = set(zip(nodes.x, nodes.y, strict=True))
    assert {(line.x[0], line.y[0]), (line.x[1], line.y[1])} == places


def test_a_more_liquid_symbol_is_larger():
    pairs = [row("A", "B", "selected", liquidity=9e6), row("C", "D", "selected", liquidity=1e5)]
    nodes = network_figure(Network.of(pairs)).data[-1]
    size = dict(zip(nodes.text, nodes.marker.size, strict=True))
    assert size["A"] == size["B"] > size["C"] == size["D"]


def test_pairs_of_unknown_liquidity_are_drawn_all_the_same():
    nodes = network_figure(Network.of([row("A", "B", "selected", liquidity=None)])).data[-1]
    assert len(set(nodes.marker.size)) == 1


def test_a_symbol_says_how_many_pairs_it_has():
    pairs = [row("A", "B", "selected"), row("A", "C", "selected"), row("A", "D")]
    nodes = network_figure(Network.of(pairs)).data[-1]
    said = dict(zip(nodes.text, nodes.customdata, strict=True))
    assert "2 pairs on the roster, 1 stopped" in said["A"]


def test_the_same_screen_gives_the_same_figures():
    assert network_figure(Network.of(crowd())).to_json() == network_figure(Network.of(crowd())).to_json()


# --------------------------------------------------------------------------------------------- both


def test_figures_say_which_screen_they_are_of():
    screen = {"formation_end": "2024-01-20T00:00:00Z", "pairs": [row("S000", "S001", "selected")]}
    for figure in screen_figures(screen, all_tests(4, {(0, 1): 0.001}), level=LEVEL):
        assert "formation window to 2024-01-20 00:00 UTC" in figure.layout.annotations[0].text


def test_figures_of_an_empty_screen_say_so_in_words():
    screen = {"formation_end": "2024-01-20T00:00:00Z", "pairs": []}
    heat, network = screen_figures(screen, all_tests(1), level=LEVEL)
    assert "No pair was tested" in heat.layout.annotations[0].text
    assert "No pair is significant" in network.layout.annotations[0].text
    assert not heat.data
    assert not network.data


def test_hostile_symbols_are_text():
    hostile = "<a href='javascript:1'>x</a>"
    screen = {"formation_end": "2024-01-20T00:00:00Z", "pairs": [row(hostile, "B", "selected", reason=hostile)]}
    tests = pd.DataFrame({"dependent": [f"{hostile}/USDT"], "independent": ["B/USDT"], "p_adjusted": [0.001]})
    for figure in screen_figures(screen, tests, level=LEVEL):
        assert "<a href" not in json.dumps(figure.to_plotly_json(), default=str)
