"""Step 5: fit on each formation window, predict each trading window, score."""

from kedro.pipeline import Node, Pipeline

from mntrading.pipelines.modelling.nodes import predict_pairs, score_models, train_models


def create_pipeline() -> Pipeline:
    """Train, predict, score."""
    return Pipeline(
        [
            Node(
                train_models,
                inputs=[
                    "pair_datasets",
                    "roster",
                    "params:modelling",
                    "params:feature_engineering.features",
                    "params:feature_engineering.labels",
                    "params:compute",
                ],
                outputs="pair_models",
                name="train_models",
            ),
            Node(
                predict_pairs,
                inputs=["pair_features", "pair_models", "roster", "params:compute"],
                outputs="predictions",
                name="predict_pairs",
            ),
            Node(
                score_models,
                inputs=["predictions", "pair_datasets", "pair_models", "roster", "params:modelling"],
                outputs="model_scores",
                name="score_models",
            ),
        ],
        tags="train",
    )
