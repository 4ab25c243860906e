"""Every page of the dashboard on a finished project: pictures, tables, no traceback, and no trace too long."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit import config
from streamlit.testing.v1 import AppTest

from mntrading.apps.dashboard import __main__ as launcher
from mntrading.apps.dashboard import services

MOST_POINTS = 5_000
FIGURES = {"overview": 2, "live": 1, "universe": 4, "pairs": 2, "models": 3, "backtest": 4, "artifacts": 0}
"""Least number of figures on each page."""

pytestmark = pytest.mark.xdist_group("dashboard")


@pytest.fixture
def dashboard(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """On loopback, beside an API that is down."""
    monkeypatch.setenv("MNTRADING_STORAGE_ROOT", str(finished))
    monkeypatch.setenv("KEDRO_ENV", "test")
    monkeypatch.setenv("MNTRADING_API_URL", "http://127.0.0.1:9")
    for name in ("MNTRADING_API_TOKEN", "MNTRADING_DASHBOARD_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    address = config.get_option("server.address")
    config.set_option("server.address", "127.0.0.1")
    yield
    config.set_option("server.address", address)


def opened(page: str) -> AppTest:
    app = AppTest.from_file(str(launcher.APP), default_timeout=120).run()
    return app if page == "overview" else app.switch_page(f"views/{page}.py").run()


def figures(app: AppTest) -> list[dict[str, Any]]:
    return [json.loads(chart.proto.spec) for chart in app.get("plotly_chart")]


def longest(figure: dict[str, Any]) -> int:
    """Points of a figure's longest line."""
    lines = [trace.get("x", ()) for trace in figure["data"] if trace["type"].startswith("scatter")]
    return max((len(x) if isinstance(x, list) else len(_numbers(x)) for x in lines), default=0)


def _numbers(packed: dict[str, str]) -> np.ndarray:
    return np.frombuffer(b64decode(packed["bdata"]), packed["dtype"])


@pytest.mark.parametrize("page", [*FIGURES, "run"])
def test_a_page_of_a_finished_project_has_its_pictures(page: str, dashboard: None) -> None:
    app = opened(page)
    assert not app.exception
    errors = [str(error.value) for error in app.error]
    assert not [text for text in errors if "storage" in text], errors
    drawn = figures(app)
    assert len(drawn) >= FIGURES.get(page, 0)
    assert max(map(longest, drawn), default=0) <= MOST_POINTS


def test_every_pair_and_every_window_can_be_looked_at(dashboard: None) -> None:
    app = opened("pairs")
    pairs, windows = app.selectbox[0], app.selectbox[1]
    app.selectbox[1].select(windows.options[-1])
    app.run()
    assert not app.exception
    app.selectbox[1].select(windows.options[0])
    for pair in pairs.options:
        app.selectbox[0].select(pair)
        app.run()
        assert not app.exception, pair
    assert services.store().has("pair_curves")


def test_every_window_of_the_screen_can_be_looked_at(dashboard: None) -> None:
    app = opened("universe")
    for window in app.selectbox[0].options:
        app.selectbox[0].select(window)
        app.run()
        assert not app.exception, window


def test_a_damaged_artefact_is_named_with_what_makes_it_anew(
    project: Any, dashboard: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNTRADING_STORAGE_ROOT", str(project.root))
    (project.root / "backtest_results" / "_summary.json").write_text("{}")
    app = opened("backtest")
    assert not app.exception
    said = "\n".join(str(one.value) for kind in (app.error, app.markdown) for one in kind)
    assert "backtest" in said
    assert "kedro run" in said
