"""Node of the upload."""

from __future__ import annotations

import logging
from typing import Any

from mntrading.objects.bucket import Uploader
from mntrading.params import UploadParams

LOGGER = logging.getLogger(__name__)


def upload_folders(upload: UploadParams, target: Uploader) -> dict[str, Any]:
    """Copy folders of the storage root into the bucket, and say what was sent."""
    done = target.send(upload.folders, upload.prefix, workers=upload.workers, read_back=upload.read_back)
    for one in done:
        LOGGER.info("%s", one)
    return {"schema_version": 1, "folders": [one.document() for one in done]}
