"""Folders of the storage root into a bucket."""

from mntrading.pipelines.upload.pipeline import create_pipeline

__all__ = ["create_pipeline"]
