"""Steps 3 and 4: features on the trading bars, then the labelled datasets."""

from kedro.pipeline import Node, Pipeline

from mntrading.pipelines.feature_engineering.nodes import build_features, label_pairs


def create_pipeline() -> Pipeline:
    """Features, then labels."""
    return Pipeline(
        [
            Node(
                build_features,
                inputs=[
                    "ohlcv_5m",
                    "ohlcv_1h",
                    "roster",
                    "params:feature_engineering.features",
                    "params:compute",
                    "pair_features_stored",
                ],
                outputs="pair_features",
                name="build_features",
                tags="features",
            ),
            Node(
                label_pairs,
                inputs=[
                    "pair_features",
                    "ohlcv_5m",
                    "roster",
                    "params:feature_engineering.labels",
                    "params:compute",
                    "pair_datasets_stored",
                ],
                outputs="pair_datasets",
                name="label_pairs",
                tags="dataset",
            ),
        ]
    )
