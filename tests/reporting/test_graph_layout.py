"""Small graphs on a page: nothing overlaps, what belongs together stands together, and nothing is left to chance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mntrading.reporting.graph_layout import connected_parts, labels_above, lay_out

WIDTH = 700.0


def boxes(n, wide=50.0, high=35.0):
    return np.tile((wide, high), (n, 1))


def overlapping(places, sizes):
    apart = np.abs(places[:, None] - places[None, :])
    hit = (apart < (sizes[:, None] + sizes[None, :]) / 2).all(axis=2)
    return np.argwhere(np.triu(hit, 1))


@st.composite
def graphs(draw):
    n = draw(st.integers(2, 40))
    ends = st.integers(0, n - 1)
    edges = draw(st.sets(st.tuples(ends, ends).filter(lambda edge: edge[0] < edge[1]), min_size=1, max_size=100))
    sizes = [(draw(st.floats(10, 120)), draw(st.floats(20, 50))) for _ in range(n)]
    return n, sorted(edges), np.array(sizes)


@settings(deadline=None, max_examples=25)
@given(graphs())
def test_boxes_never_overlap_and_lie_on_the_page(graph):
    n, edges, sizes = graph
    found = lay_out(n, edges, [1.0] * len(edges), sizes, width=WIDTH)
    assert not len(overlapping(found.places, sizes))
    assert (found.places - sizes / 2).min() >= -1e-6
    assert (found.places + sizes / 2)[:, 0].max() <= WIDTH + 1e-6
    assert (found.places + sizes / 2)[:, 1].max() == pytest.approx(found.height)


def test_the_same_graph_has_the_same_places():
    edges = [(0, 1), (1, 2), (2, 3), (3, 0), (4, 5)]
    first, second = (lay_out(6, edges, [1.0] * 5, boxes(6), width=WIDTH) for _ in range(2))
    np.testing.assert_array_equal(first.places, second.places)


def test_a_hub_stands_among_its_neighbours():
    edges = [(0, spoke) for spoke in range(1, 9)]
    places = lay_out(9, edges, [1.0] * 8, boxes(9), width=WIDTH).places
    away = np.linalg.norm(places - places.mean(axis=0), axis=1)
    assert away.argmin() == 0


def test_a_short_edge_is_shorter_than_a_long_one():
    places = lay_out(3, [(0, 1), (1, 2)], [1.0, 2.0], boxes(3, 10, 10), width=WIDTH).places
    short, long = (np.linalg.norm(places[a] - places[b]) for a, b in ((0, 1), (1, 2)))
    assert long == pytest.approx(2 * short, rel=0.05)


def test_a_chain_longer_than_the_page_is_squeezed_into_it():
    edges = [(k, k + 1) for k in range(19)]
    found = lay_out(20, edges, [1.0] * 19, boxes(20), width=300.0)
    assert found.places[:, 0].max() + 25 <= 300 + 1e-6
    assert not len(overlapping(found.places, boxes(20)))


def test_a_crowd_on_a_narrow_page_grows_downwards():
    edges = [(0, spoke) for spoke in range(1, 31)]
    found = lay_out(31, edges, [1.0] * 30, boxes(31, wide=90.0), width=300.0)
    assert found.places[:, 0].min() - 45 >= -1e-6
    assert found.places[:, 0].max() + 45 <= 300 + 1e-6
    assert not len(overlapping(found.places, boxes(31, wide=90.0)))


def test_pairs_by_themselves_are_set_in_rows():
    edges = [(2 * k, 2 * k + 1) for k in range(10)]
    found = lay_out(20, edges, [1.0] * 10, boxes(20), width=WIDTH)
    rows = {round(y) for y in found.places[:, 1]}
    assert 1 < len(rows) < 10
    assert all(found.places[a, 1] == found.places[b, 1] for a, b in edges)


def test_an_empty_graph_takes_no_room():
    assert lay_out(0, [], [], boxes(0), width=WIDTH).height == 0


def test_parts_are_found_whatever_the_order_of_edges():
    assert connected_parts(6, [(4, 5), (1, 2), (0, 1)]) == [[0, 1, 2], [3], [4, 5]]


def test_a_label_gives_way_to_a_line_below_its_node():
    places = np.array([[0.0, 0.0], [0.0, 100.0]])
    above = labels_above(places, [(0, 1)], np.array([8.0, 8.0]), np.array([[40.0, 14.0]] * 2))
    assert above.tolist() == [True, False]


def test_a_label_stays_below_where_above_is_another_node():
    places = np.array([[0.0, 0.0], [0.0, 100.0], [0.0, -20.0]])
    above = labels_above(places, [(0, 1)], np.full(3, 8.0), np.array([[40.0, 14.0]] * 3))
    assert not above[0]
