"""Start runs, watch them, end them: the API does the work, this page asks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from mntrading.apps.dashboard import fields, forms, services, show
from mntrading.apps.dashboard.client import ApiError, Client
from mntrading.apps.dashboard.shaping import runs

_LOG_LINES = 200
_PRESSES = "presses"
_BUTTONS = (
    ("short_cycle", "Short cycle", ":material/bolt:", "Newest bars of pairs in production, signals, orders, report."),
    ("full_cycle", "Full cycle", ":material/all_inclusive:",
     "Everything from bars to orders: screen, fit, backtest, **promote**, trade, report."),
)  # fmt: skip


def main() -> None:
    """Draw the page."""
    client = services.client()
    try:
        found = client.runs(30)
    except ApiError as error:
        show.api_problem(error)
        _records()
        return
    _start_buttons(client, found)
    _now(client, bool(runs.active_ids(found)))
    with st.expander("Another pipeline, or other parameters", icon=":material/tune:"):
        _form(client, found)
    _history(client, found)


def _start_buttons(client: Client, found: Sequence[Mapping[str, Any]]) -> None:
    columns = st.columns(len(_BUTTONS))
    for column, (pipeline, name, icon, words) in zip(columns, _BUTTONS, strict=True):
        with column, st.container(border=True, height="stretch"):
            pressed = st.button(name, key=f"start-{pipeline}", icon=icon, type="primary", width="stretch")
            st.caption(words)
        if pressed:
            start(client, pipeline, {}, found)


def start(client: Client, pipeline: str, body: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> None:
    """Ask for a run; a button pressed twice is one run, because both presses carry one key."""
    presses: dict[str, runs.Press] = st.session_state.setdefault(_PRESSES, {})
    sent = runs.press(presses.get(pipeline), pipeline, body, time.monotonic(), runs.active_ids(found))
    presses[pipeline] = sent
    try:
        run = client.start(pipeline, body, sent.key)
    except ApiError as error:
        presses.pop(pipeline, None)
        show.api_problem(error)
        return
    presses[pipeline] = runs.Press(sent.key, sent.what, sent.at, str(run["id"]))
    again = sent.run_id == run["id"]
    st.toast(f"{pipeline.replace('_', ' ')} {'goes on' if again else 'is on its way'}", icon=":material/check:")


def _now(client: Client, busy: bool) -> None:
    """Progress and log of what runs, drawn anew by itself; the whole page once a run has ended."""

    @st.fragment(run_every=2.0 if busy else 10.0)
    def watched() -> None:
        try:
            found = client.runs(30)
        except ApiError as error:
            show.api_problem(error)
            return
        active = [run for run in found if run["state"] in runs.ACTIVE]
        if bool(active) != st.session_state.get("busy", busy):
            st.session_state["busy"] = bool(active)
            st.rerun()
        if not active:
            st.caption("Nothing runs and nothing waits.")
        for run in reversed(active):
            _progress(client, run)

    st.session_state["busy"] = busy
    watched()


def _progress(client: Client, run: Mapping[str, Any]) -> None:
    with st.container(border=True):
        left, right = st.columns([4, 1], vertical_alignment="center")
        with left:
            st.markdown(f"**{show.plain(run['pipeline'].replace('_', ' '))}** {show.badge(*runs.STATES[run['state']])}")
            st.progress(runs.share(run), text=show.plain(runs.progress_words(run)))
        with right:
            asked = bool(run.get("cancel_requested"))
            if st.button("Cancel", key=f"cancel-{run['id']}", icon=":material/stop_circle:", disabled=asked):
                try:
                    client.cancel(run["id"])
                except ApiError as error:
                    show.api_problem(error)
        if run["state"] == "running":
            _log(client, str(run["id"]), 12)


def _log(client: Client, id_: str, lines: int) -> None:
    try:
        log = client.run(id_, lines)["log"]
    except ApiError as error:
        show.api_problem(error)
        return
    st.code(runs.log_text(log) or "No line yet.", language=None, height=260 if lines > 12 else 180, wrap_lines=True)


def _form(client: Client, found: Sequence[Mapping[str, Any]]) -> None:
    try:
        known = {one.name: one for one in client.pipelines()}
        names = [name for name, *_ in _BUTTONS] + [name for name in known if name not in ("short_cycle", "full_cycle")]
        chosen = st.selectbox(
            "Pipeline", [name for name in names if name in known], format_func=lambda name: name.replace("_", " ")
        )
        st.caption(show.plain(known[chosen].description))
        schema, values = client.parameters(chosen)
    except ApiError as error:
        show.api_problem(error)
        return
    entries = forms.entries_of(schema, values)
    with st.form(f"form-{chosen}", border=False):
        entered = fields.form(chosen, entries)
        sent = st.form_submit_button(f"Start {chosen.replace('_', ' ')}", type="primary", icon=":material/play_arrow:")
    if not sent:
        return
    try:
        body = forms.changes(entries, entered)
    except ValueError as error:
        st.error(show.plain(str(error)))
        return
    wrong = forms.problems(schema, body)
    if wrong:
        show.api_problem(ApiError("refused", "These parameters can't be used.", errors=tuple(wrong)))
        return
    changed = forms.flat(body)
    if changed:
        st.markdown("Changed: " + ", ".join(f"`{name}` = `{value}`" for name, value in changed))
    start(client, chosen, body, found)


def _history(client: Client, found: Sequence[Mapping[str, Any]]) -> None:
    st.subheader("History", anchor=False)
    if found:
        show.rows(runs.rows(found), "history")
        ended = {str(run["id"]): run for run in found}
        names = {id_: runs.title(run) for id_, run in ended.items()}
        chosen = st.selectbox("Look at a run", list(ended), index=None, format_func=lambda id_: names[id_],
                              placeholder="its parameters, what it said, its log")  # fmt: skip
        if chosen is not None:
            _detail(client, ended[chosen])
    else:
        st.caption("The API has started no run yet.")
    with st.expander("Runs of the command line too", icon=":material/terminal:"):
        _records()


def _detail(client: Client, run: Mapping[str, Any]) -> None:
    if run.get("error"):
        st.error(show.plain(str(run["error"])))
    changed = forms.flat(run.get("parameters") or {})
    st.caption("Parameters: " + (", ".join(f"`{name}` = `{value}`" for name, value in changed) or "the environment's"))
    mlflow = services.current().mlflow_url
    if mlflow and run.get("mlflow_run_id"):
        st.link_button("This run in MLflow", f"{mlflow}/#/runs/{run['mlflow_run_id']}", icon=":material/open_in_new:")
    _log(client, str(run["id"]), _LOG_LINES)


def _records() -> None:
    """Records of all runs, which the storage has whoever started them."""
    store = services.store()
    if not store.has("run_history"):
        st.caption("No run has left a record yet.")
        return
    table = runs.recorded(store.newest("run_history", 50))
    show.rows([{name: value for name, value in row.items() if name != "MLflow"} for row in table], "records")


main()
