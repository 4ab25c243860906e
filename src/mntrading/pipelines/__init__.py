"""Kedro pipelines: wiring only; what they do stands in ``mntrading.core``."""
