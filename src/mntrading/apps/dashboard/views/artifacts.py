"""Everything that is stored, to take away, and the report to read."""

from __future__ import annotations

import streamlit as st

from mntrading.apps.catalog import Entry
from mntrading.apps.dashboard import links, services, show
from mntrading.apps.dashboard.shaping import artifacts
from mntrading.apps.dashboard.store import Store


def main() -> None:
    """Draw the page."""
    store = services.store()
    links.all_of_them()
    entries = [store.entry(name) for name in store.catalog.names()]
    if not any(entry.exists for entry in entries):
        show.nothing(store, "latest_report")
        return
    _first(store)
    tabs = st.tabs(["Latest report", "Research report", "Everything stored"])
    with tabs[0]:
        _report(store, "latest_report")
    with tabs[1]:
        _report(store, "research_report")
    with tabs[2]:
        _all(store, entries)


def _first(store: Store) -> None:
    st.subheader("Take away", anchor=False)
    names = [name for name in artifacts.FIRST if store.has(name)]
    for start in range(0, len(names), 3):
        for column, name in zip(st.columns(3), names[start : start + 3], strict=False):
            with column:
                _download(store, store.entry(name), None, _label(name), f"first-{name}")


def _label(name: str) -> str:
    words = name.replace("_", " ").replace(" html", " (HTML)")
    return words[:1].upper() + words[1:]


def _download(store: Store, entry: Entry, id_: str | None, label: str, key: str) -> None:
    """A button that reads the bytes when it is pressed."""
    st.download_button(
        label,
        data=lambda: store.bytes(entry.name, id_).data,
        file_name=artifacts.file_name(entry, id_),
        mime=store.media_type(entry),
        key=key,
        icon=":material/download:",
        on_click="ignore",
        width="stretch",
    )


def _report(store: Store, name: str) -> None:
    if show.nothing(store, name):
        return
    page = f"{name}_html"
    if store.has(page) and st.toggle("With figures", True, key=f"figures-{name}"):
        st.iframe(artifacts.alone(store.document(page)), height=1400)
    else:
        st.markdown(store.document(name))


def _all(store: Store, entries: list[Entry]) -> None:
    show.rows(artifacts.rows(entries), "entries")
    st.caption(f"Below {store.catalog.root}. Hashes are of the content: equal hashes are equal bytes.")
    known = {entry.name: entry for entry in entries if entry.exists and entry.kind != "bars"}
    left, right = st.columns(2)
    with left:
        name = st.selectbox("Download", list(known), format_func=_label)
    if name is None:
        return
    entry, id_ = known[name], None
    with right:
        if entry.kind == "partitions":
            id_ = st.selectbox("Part", sorted(store.folder(name), reverse=True))
            if id_ is None:
                return
    _download(store, entry, id_, f"Download {artifacts.file_name(entry, id_)}", "any")


main()
