"""The dashboard: navigation, who may come in, and the one place where a page's errors end."""

from __future__ import annotations

import logging
import time

import streamlit as st

from mntrading.apps.dashboard import services, show
from mntrading.apps.dashboard.access import check_exposure, is_right
from mntrading.apps.dashboard.client import ApiError
from mntrading.apps.dashboard.look import CSS, ICON
from mntrading.apps.dashboard.settings import Settings
from mntrading.core.errors import MNTradingError

LOGGER = logging.getLogger(__name__)
_INSIDE = "inside"

# The folder is not called pages: Streamlit runs the scripts of a folder of that name by their address, past this one.
PAGES = {
    "Desk": [
        st.Page("views/overview.py", title="Overview", icon=":material/space_dashboard:", default=True),
        st.Page("views/run.py", title="Run", icon=":material/play_circle:"),
        st.Page("views/live.py", title="Production & live", icon=":material/bolt:"),
    ],
    "Research": [
        st.Page("views/universe.py", title="Universe & screening", icon=":material/filter_alt:"),
        st.Page("views/pairs.py", title="Pair explorer", icon=":material/compare_arrows:"),
        st.Page("views/models.py", title="Models", icon=":material/model_training:"),
        st.Page("views/backtest.py", title="Backtest", icon=":material/monitoring:"),
    ],
    "Files": [
        st.Page("views/artifacts.py", title="Artifacts & report", icon=":material/folder_open:"),
    ],
}


def is_inside(settings: Settings) -> bool:
    """Whether this session may see everything."""
    return settings.password is None or bool(st.session_state.get(_INSIDE))


def ask(password: str) -> None:
    """Ask for the password; the page that was wanted comes after it."""
    st.title("MNTrading", anchor=False)
    with st.form("password", border=True):
        given = st.text_input("Password of the dashboard", type="password", autocomplete="current-password")
        sent = st.form_submit_button("Enter", type="primary")
    if not sent:
        return
    throttle = services.throttle()
    wait = throttle.wait(time.monotonic())
    if wait > 0:
        st.error(f"Too many wrong passwords. Try again in {wait:.0f} s.")
    elif is_right(given, password):
        st.session_state[_INSIDE] = True
        st.rerun()
    else:
        throttle.refuse(time.monotonic())
        st.error("That is not the password.")


def main() -> None:
    """One drawing of the dashboard."""
    st.set_page_config(page_title="MNTrading", page_icon=ICON, layout="wide")
    st.html(CSS)
    try:
        settings = services.current()
        check_exposure(st.get_option("server.address"), settings.password)
    except MNTradingError as error:
        st.title("MNTrading", anchor=False)
        show.problem(error)
        return
    inside = is_inside(settings)
    page = st.navigation(PAGES, position="sidebar" if inside else "hidden")
    if not inside and settings.password is not None:
        ask(settings.password)
        return
    st.title(page.title, anchor=False)
    try:
        page.run()
    except (MNTradingError, ApiError) as error:
        show.problem(error)
    except OSError as error:  # storage that is away, or a file that a run replaced under the reader's hands
        LOGGER.exception("page %s", page.title)
        show.problem(error)


main()
