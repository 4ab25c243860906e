"""What the models know: skill by window, calibration, importances, and which is traded with."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from mntrading.apps.dashboard import links, services, show
from mntrading.apps.dashboard.shaping import models
from mntrading.core.roster import Roster
from mntrading.reporting.model_figures import (
    calibration_figure,
    importance_figure,
    precision_recall_figure,
    roc_figure,
)
from mntrading.reporting.research_figures import skill_figure


def main() -> None:
    """Draw the page."""
    store = services.store()
    if show.nothing(store, "model_scores", "roster"):
        return
    if store.has("markets"):
        show.simulated(store.document("markets")["source"])
    scores, roster = store.document("model_scores"), Roster.parse(store.document("roster"))
    if not scores["out_of_sample"]:
        st.info(
            "No model has been scored in a trading window: too few rows, or none was chosen.", icon=":material/info:"
        )
    else:
        _skill(scores, roster)
    if scores["cross_validated"]:
        _fit(scores)
    registry = store.document("champion_registry") if store.has("champion_registry") else None
    found = models.registered(registry)
    if found:
        st.subheader("Pairs and their models", anchor=False)
        show.rows(found, "registered")
    links.mlflow("Runs of every fold and model, and the model registry, are in MLflow.")


def _skill(scores: dict[str, Any], roster: Roster) -> None:
    show.facts(models.score_facts(scores))
    left, right = st.columns(2)
    with left:
        st.subheader("Skill by trading window", anchor=False)
        days = models.fold_days(scores, roster)
        show.figure(
            skill_figure(days, list(scores["out_of_sample"].values())), "skill",
            "Out of sample: models were fitted before each window. Red is no better than chance.",
        )  # fmt: skip
    with right:
        st.subheader("Do probabilities come true", anchor=False)
        names = {"total": "all trading windows"} | {
            name: f"window from {day}" for name, day in zip(scores["out_of_sample"], days, strict=True)
        }
        chosen = st.selectbox(
            "Beside all windows",
            [None, *list(names)[1:]],
            label_visibility="collapsed",
            format_func=lambda name: "all windows alone" if name is None else names[name],
        )
        shown = ["total"] + ([chosen] if chosen else [])
        curves = {names[name]: pd.DataFrame(scores["details"][name]["bins"]) for name in shown}
        show.figure(
            calibration_figure(curves), "calibration",
            "Told against come: on the dotted line probabilities are true. A point is as large as its rows are many.",
        )  # fmt: skip


def _fit(scores: dict[str, Any]) -> None:
    st.subheader("One fit", anchor=False)
    names = models.fits(scores)
    chosen = st.selectbox("Fit", list(names), format_func=names.__getitem__)
    fit = scores["cross_validated"][chosen]
    st.markdown(show.plain(models.fit_words(fit)))
    show.rows(models.candidate_rows(fit), "candidates", numbers=models.FORMATS)
    st.caption(
        "Out of fold, inside the formation window. Smaller is better for log loss, Brier score and calibration error."
    )
    if not fit["chosen"]:
        return
    details = fit["details"]
    left, right = st.columns(2)
    with left:
        importance = pd.DataFrame(details["importance"]).astype({"permutation": float, "permutation_std": float})
        show.figure(
            importance_figure(importance), "importance",
            "How much worse the model is when a feature is shuffled, out of fold; bars span the splits. Near zero or "
            "below, the feature is not missed.",
        )  # fmt: skip
    with right:
        curves, name = details["curves"], "out of fold"
        base = next((line["base_rate"] for line in fit["candidates"]), None)
        tabs = st.tabs(["Calibration", "ROC", "Precision and recall"])
        with tabs[0]:
            show.figure(calibration_figure({name: pd.DataFrame(details["calibration"]["bins"])}), "fit-calibration")
        with tabs[1]:
            show.figure(
                roc_figure({name: pd.DataFrame(curves["roc"], columns=["false_positive", "true_positive"])}), "fit-roc"
            )
        with tabs[2]:
            drawn = precision_recall_figure(
                {name: pd.DataFrame(curves["precision_recall"], columns=["recall", "precision"])}, base
            )
            show.figure(drawn, "fit-precision", "The dotted line is what no skill would have.")


main()
