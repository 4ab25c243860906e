"""The dashboard's pages, drawn without a browser."""

from __future__ import annotations

from typing import Any, Final

from streamlit.testing.v1 import AppTest

from mntrading.apps.dashboard import __main__ as launcher

PAGES: Final = ("overview", "run", "live", "universe", "pairs", "models", "backtest", "artifacts")
TITLES: Final = {
    "overview": "Overview", "run": "Run", "live": "Production & live", "universe": "Universe & screening",
    "pairs": "Pair explorer", "models": "Models", "backtest": "Backtest", "artifacts": "Artifacts & report",
}  # fmt: skip


def opened(page: str) -> AppTest:
    """A page as a visitor gets it."""
    app = AppTest.from_file(str(launcher.APP), default_timeout=60).run()
    return app if page == "overview" else app.switch_page(f"views/{page}.py").run()


def texts(app: AppTest) -> str:
    """Everything that is said on a page."""
    kinds: list[Any] = [app.markdown, app.caption, app.info, app.warning, app.error, app.success, app.title]
    kinds += [app.subheader, app.code]
    return "\n".join(str(one.value) for kind in kinds for one in kind)
