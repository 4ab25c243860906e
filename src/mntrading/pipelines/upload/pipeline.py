"""What was made here, copied into an object store; runs only when it is asked for."""

from kedro.pipeline import Node, Pipeline

from mntrading.pipelines.upload.nodes import upload_folders


def create_pipeline() -> Pipeline:
    """One node."""
    return Pipeline(
        [
            Node(
                upload_folders,
                inputs=["params:upload", "upload_target"],
                outputs="upload_summary",
                name="upload_folders",
            )
        ]
    )
