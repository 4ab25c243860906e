"""Pure quantitative library: arrays and frames in, values out.

Nothing here imports Kedro, MLflow, a web framework, a file system or a clock.
"""
