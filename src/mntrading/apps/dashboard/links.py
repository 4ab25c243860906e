"""Links to what stands beside the dashboard, where its address is set."""

from __future__ import annotations

import streamlit as st

from mntrading.apps.dashboard import services


def mlflow(words: str) -> None:
    """The way to MLflow, or how to set it."""
    url = services.current().mlflow_url
    st.caption(words if url else f"{words} `make mlflow` shows them; MNTRADING_MLFLOW_UI_URL puts a link here.")
    if url:
        st.link_button("Open MLflow", url, icon=":material/open_in_new:")


def all_of_them() -> None:
    """MLflow, the object storage and kedro-viz, side by side."""
    now = services.current()
    ways = (
        ("MLflow: runs and models", now.mlflow_url, "MNTRADING_MLFLOW_UI_URL", ":material/science:"),
        ("Object storage", now.s3_url, "MNTRADING_S3_CONSOLE_URL", ":material/database:"),
        ("kedro-viz: lineage", now.viz_url, "MNTRADING_KEDRO_VIZ_URL", ":material/account_tree:"),
    )
    for column, (name, url, variable, icon) in zip(st.columns(len(ways)), ways, strict=True):
        with column:
            if url:
                st.link_button(name, url, icon=icon, width="stretch")
            else:
                st.button(
                    name, icon=icon, width="stretch", disabled=True, help=f"Set {variable} to link it.", key=variable
                )
