"""The place for features of your own: a function here, its name in ``feature_engineering.features.include``.

Research, backtest and live inference import this module with the others, and models carry a hash of its functions.

.. code-block:: python

    @feature(bars=lambda params: params.z_window)
    def spread_skew(pair: PairFrame) -> dict[str, FloatArray]:
        \"\"\"Mean cube of z over the z window. Row t uses bars ≤ t.\"\"\"
        mean, _ = pair.mean_std(pair.z**3, pair.params.z_window)
        return {"spread_skew": mean}

Row t of what is returned may use rows ≤ t of the pair's arrays, ``bars`` of them and none before. Window sums are those
of ``pair.mean_std`` and ``pair.moments``: pandas' and numpy's running sums have other bits in a longer history.
``make parity`` checks it.
"""

from __future__ import annotations

# from mntrading.core.feature_set import PairFrame, feature
# from mntrading.core.types import FloatArray
