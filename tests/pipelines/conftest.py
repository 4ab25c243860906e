"""Import the frameworks once, with the warnings they give about themselves on import."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import mntrading.settings  # noqa: F401
