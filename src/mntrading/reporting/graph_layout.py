"""Where the nodes of a small graph are drawn: each connected part by itself, then all parts set in rows.

Nothing is random: the same nodes and edges give the same places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mntrading.core.types import BoolArray, FloatArray

_EDGE = 74.0  # pixels of an edge of length 1, where there is room
_GAP = 6.0
_BETWEEN_PARTS = 24.0
_ROUNDS = 200
_MAX_GROWTH = 2.0
_NEAR = 9.0  # a line this near to a node runs over it
_GOLDEN_ANGLE = np.pi * (3 - 5**0.5)

_Part = tuple[list[int], FloatArray]


@dataclass(frozen=True)
class Layout:
    """Places of nodes (node × 2, x to the right and y downwards, pixels) on a page of a width and a height."""

    places: FloatArray
    width: float
    height: float


def lay_out(
    n_nodes: int,
    edges: Sequence[tuple[int, int]],
    lengths: Sequence[float],
    sizes: FloatArray,
    *,
    width: float,
) -> Layout:
    """Places of nodes such that no two of their boxes overlap.

    Within a connected part, distances on the page follow distances in the graph (stress majorisation from the
    best of a few circles); boxes that still overlap are then pushed apart. Parts are set in rows, large ones first.

    Parameters
    ----------
    n_nodes
        Nodes are numbered from 0.
    edges
        Pairs of nodes.
    lengths
        Wanted length of each edge, 1 for a short one.
    sizes
        Width and height of each node's box, label included, in pixels (node × 2).
    width
        Of the page; a part is squeezed into it.

    References
    ----------
    Gansner, Koren, North (2005), "Graph drawing by stress majorization".
    """
    places = np.zeros((n_nodes, 2))
    parts = []
    for members in connected_parts(n_nodes, edges):
        at = {node: k for k, node in enumerate(members)}
        inside = {(at[a], at[b]): length for (a, b), length in zip(edges, lengths, strict=True) if a in at}
        parts.append((members, _part(inside, sizes[members], width)))
    parts.sort(key=lambda part: (-len(part[0]), part[0]))
    top, gap = 0.0, width
    for row in _rows(parts, sizes, width):
        height, gap = _set_row(places, row, sizes, top, width, gap)
        top += height + _BETWEEN_PARTS
    return Layout(places, width, max(top - _BETWEEN_PARTS, 0.0))


def labels_above(
    places: FloatArray, edges: Sequence[tuple[int, int]], radii: FloatArray, labels: FloatArray
) -> BoolArray:
    """Which labels are better set above their node than below it: where fewer lines cross them and nothing is hit.

    Parameters
    ----------
    places
        Centres of nodes.
    edges
        Pairs of nodes, drawn as straight lines.
    radii
        Of nodes.
    labels
        Width and height of each label.
    """
    above = np.zeros(len(places), dtype=np.bool_)
    ends = np.array([[places[a], places[b]] for a, b in edges])

    def box(node: int, up: bool) -> tuple[FloatArray, FloatArray]:
        shift = (radii[node] + labels[node, 1] / 2) * (-1 if up else 1)
        return places[node] + (0, shift), labels[node] / 2

    def cost(node: int, up: bool) -> float:
        centre, half = box(node, up)
        others = [other for other in range(len(places)) if other != node]
        hits = sum(
            bool((np.abs(places[other] - centre) < half + radii[other]).all())
            or bool((np.abs(box(other, bool(above[other]))[0] - centre) < half + labels[other] / 2).all())
            for other in others
        )
        return 100.0 * hits + _crossings(ends, centre, half)

    for node in range(len(places)):
        above[node] = cost(node, True) < cost(node, False)
    return above


def _crossings(ends: FloatArray, centre: FloatArray, half: FloatArray) -> int:
    """How many lines (line × end × 2) cross a box."""
    start, way = ends[:, 0] - centre, ends[:, 1] - ends[:, 0]
    way = np.where(np.abs(way) < 1e-9, 1e-9, way)
    to_low, to_high = (-half - start) / way, (half - start) / way
    enter = np.minimum(to_low, to_high).max(axis=1).clip(min=0)
    leave = np.maximum(to_low, to_high).min(axis=1).clip(max=1)
    return int((enter < leave).sum())


def connected_parts(n_nodes: int, edges: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Nodes of each connected part, sorted, in the order of their first nodes."""
    part = list(range(n_nodes))

    def root(node: int) -> int:
        while part[node] != node:
            node = part[node]
        return node

    for a, b in edges:
        low, high = sorted((root(a), root(b)))
        part[high] = low
    found: dict[int, list[int]] = {}
    for node in range(n_nodes):
        found.setdefault(root(node), []).append(node)
    return list(found.values())


def _rows(parts: Sequence[_Part], sizes: FloatArray, width: float) -> list[list[_Part]]:
    """Parts in order, as many in a row as there is room for."""
    rows: list[list[_Part]] = []
    taken = np.inf
    for part in parts:
        wide = _extent(part[1], sizes[part[0]])[0] + _BETWEEN_PARTS
        if taken + wide > width:
            rows.append([])
            taken = 0.0
        rows[-1].append(part)
        taken += wide
    return rows


def _set_row(
    places: FloatArray, row: Sequence[_Part], sizes: FloatArray, top: float, width: float, gap: float
) -> tuple[float, float]:
    """Put parts beside each other around the page's middle, no further apart than ``gap``; height and gap used."""
    extents = [_extent(found, sizes[members]) for members, found in row]
    height, wide = max(h for _, h in extents), sum(w for w, _ in extents)
    gap = min(gap, max(width - wide, 0.0) / (len(row) + 1))
    left = (width - wide - gap * (len(row) - 1)) / 2
    for (members, found), (w, h) in zip(row, extents, strict=True):
        corner = (found - sizes[members] / 2).min(axis=0)
        places[members] = found - corner + (left, top + (height - h) / 2)
        left += w + gap
    return height, gap


def _extent(places: FloatArray, sizes: FloatArray) -> tuple[float, float]:
    """Width and height of what the boxes cover together."""
    w, h = (places + sizes / 2).max(axis=0) - (places - sizes / 2).min(axis=0)
    return float(w), float(h)


def _part(lines: Mapping[tuple[int, int], float], sizes: FloatArray, width: float) -> FloatArray:
    """One connected part's places around 0: of several starts the one whose lines run over the fewest nodes."""
    if len(sizes) == 1:
        return np.zeros((1, 2))
    steps = _graph_distances(len(sizes), lines)
    every = [_settled(_majorise(start, steps), sizes, width) for start in _starts(steps)]
    return min(every, key=lambda found: (_lines_over_nodes(found, list(lines)), _stress(found / _EDGE, steps)))


def _settled(places: FloatArray, sizes: FloatArray, width: float) -> FloatArray:
    """In pixels, the longer side lying, inside the page, no box over another."""
    found = _EDGE * _lying(places)
    growth = next((g for g in np.linspace(1, _MAX_GROWTH, 11) if not _overlaps(g * found, sizes)), _MAX_GROWTH)
    found = growth * found
    room, wide = width - float(sizes[:, 0].max()), float(np.ptp(found[:, 0]))
    if wide > room:
        found = found * (room / wide, 1.0)
    return _apart(found - found.mean(axis=0), sizes, width)


def _lines_over_nodes(places: FloatArray, lines: Sequence[tuple[int, int]]) -> int:
    """How often a line runs over a node that it does not belong to, and looks as if it did."""
    ends, near = places[np.array(lines)], np.full(2, _NEAR)
    return sum(_crossings(ends[[node not in line for line in lines]], place, near) for node, place in enumerate(places))


def _graph_distances(n: int, lines: Mapping[tuple[int, int], float]) -> FloatArray:
    """Shortest way between any two nodes of a connected part."""
    steps = np.full((n, n), np.inf)
    np.fill_diagonal(steps, 0)
    for (a, b), length in lines.items():
        steps[a, b] = steps[b, a] = length
    for k in range(n):
        steps = np.minimum(steps, steps[:, [k]] + steps[[k], :])
    return steps


def _starts(steps: FloatArray) -> list[FloatArray]:
    """Nodes on a circle and on a spiral, in three orders: as given, the nearest to all first, by steps from that."""
    n = len(steps)
    remote = steps.sum(axis=1)
    orders = (np.arange(n), np.argsort(remote, kind="stable"), np.argsort(steps[np.argmin(remote)], kind="stable"))
    turn, size = np.arange(n), steps.max() / 2
    circle = (2 * np.pi * turn / n, np.full(n, size))
    spiral = (_GOLDEN_ANGLE * turn, size * np.sqrt((turn + 0.5) / n))
    shapes = [np.column_stack([np.cos(angle), np.sin(angle)]) * far[:, None] for angle, far in (circle, spiral)]
    return [shape[np.argsort(order, kind="stable")] for shape in shapes for order in orders]


def _weights(steps: FloatArray) -> FloatArray:
    weights: FloatArray = 1 / np.maximum(steps, 0.1) ** 2
    np.fill_diagonal(weights, 0)
    return weights


def _distances(places: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.norm(places[:, None] - places[None, :], axis=2), dtype=np.float64)


def _stress(places: FloatArray, steps: FloatArray) -> float:
    return float((_weights(steps) * (_distances(places) - steps) ** 2).sum())


def _majorise(places: FloatArray, steps: FloatArray) -> FloatArray:
    weights = _weights(steps)
    laplacian = np.diag(weights.sum(axis=1)) - weights
    inverse = np.linalg.pinv(laplacian)
    for _ in range(_ROUNDS):
        pull = -weights * steps / np.maximum(_distances(places), 1e-9)
        np.fill_diagonal(pull, -pull.sum(axis=1))
        places = inverse @ pull @ places
    return places


def _lying(places: FloatArray) -> FloatArray:
    """Turned so that the direction of largest spread is horizontal; left as it is where there is none."""
    centred: FloatArray = places - places.mean(axis=0)
    xx, yy, xy = (float((centred[:, a] * centred[:, b]).sum()) for a, b in ((0, 0), (1, 1), (0, 1)))
    if np.hypot(xx - yy, 2 * xy) < 1e-6 * (xx + yy):
        return centred
    angle = 0.5 * np.arctan2(2 * xy, xx - yy)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.asarray(centred @ np.array([[cos, -sin], [sin, cos]]), dtype=np.float64)


def _overlaps(places: FloatArray, sizes: FloatArray) -> bool:
    return bool(np.triu((_shortfall(places, sizes) > 0).all(axis=2), 1).any())


def _shortfall(places: FloatArray, sizes: FloatArray) -> FloatArray:
    """How much two boxes lack to a gap between them, along each axis (node × node × 2)."""
    needed = (sizes[:, None] + sizes[None, :]) / 2 + _GAP
    return np.asarray(needed - np.abs(places[:, None] - places[None, :]))


def _apart(places: FloatArray, sizes: FloatArray, width: float) -> FloatArray:
    """Push overlapping boxes apart along the axis that needs less, downwards where the page ends."""
    places = places.copy()
    edge = (width - sizes[:, 0]) / 2
    for turn in range(20 * _ROUNDS):
        lack = _shortfall(places, sizes)
        hit = np.triu((lack > 0.01).all(axis=2), 1)
        if not hit.any():
            break
        for a, b in np.argwhere(hit):
            # late in the game only upwards and downwards, where there is always room
            axis = 1 if turn > _ROUNDS else int(lack[a, b, 1] <= lack[a, b, 0])
            side = 1.0 if places[a, axis] <= places[b, axis] else -1.0
            move = side * (lack[a, b, axis] / 2 + 0.01)
            places[a, axis] -= move
            places[b, axis] += move
        places[:, 0] = np.clip(places[:, 0], -edge, edge)
    return places
