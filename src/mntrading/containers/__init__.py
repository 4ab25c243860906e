"""What the container image runs beside the project: the check at its start, health checks, buckets, and ``.env``.

Nothing here needs more than the standard library to be imported, so that a check costs a tenth of a second.
"""
