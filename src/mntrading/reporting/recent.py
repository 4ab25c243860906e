"""z of a pair over the last days, for those who look at what is live."""

from __future__ import annotations

import pandas as pd

from mntrading.core.features import build_spread, warm_up_bars
from mntrading.core.menu import Item
from mntrading.params import FeatureParams


def recent_start(end: pd.Timestamp, item: Item, features: FeatureParams, step: pd.Timedelta, days: int) -> pd.Timestamp:
    """From where on bars are needed to know z over the last days."""
    return end - pd.Timedelta(days, unit="D") - (warm_up_bars(item.spread_params(features)) + 2) * step


def recent_z(
    legs: tuple[pd.DataFrame, pd.DataFrame], item: Item, features: FeatureParams, end: pd.Timestamp, days: int
) -> pd.Series:
    """z of a pair over the last days, by bar open.

    Look-ahead: row t uses bars up to t.

    Parameters
    ----------
    legs
        Bars of both legs from ``recent_start`` on.
    item
        The windows it is traded on.
    features
        How a spread is made.
    end
        Close of the newest bar.
    days
        How many.
    """
    z = build_spread(legs[0], legs[1], item.spread_params(features))["z"]
    return z.loc[z.index >= end - pd.Timedelta(days, unit="D")]
