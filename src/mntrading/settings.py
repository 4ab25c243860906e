"""Kedro's project settings: sessions, hooks, and how configuration is merged and resolved."""

import os
import warnings

# what the frameworks say about themselves, and nothing a user can mend: a name OmegaConf is about to drop
warnings.filterwarnings("ignore", message=r"register_new_resolver\(\) is deprecated")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
# A server that dies during a run is given up on within a minute; MLflow's own limits are many minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
# Artefacts go through the server: a client that has no keys of the object store may not reach it at all.
os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")
os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "false")

from mntrading import logs
from mntrading.configuration import LOADER_ARGS

# of an mlflow base class of kedro-mlflow's; mlflow turns the warning on where it is given, so no filter holds it back
with logs.unsaid("Add type hints to the `predict` method"):
    from mntrading.hooks import RUN_HOOKS, TRACKING_HOOKS
from mntrading.runs import Session

SESSION_CLASS = Session
HOOKS = (RUN_HOOKS, TRACKING_HOOKS)
# TRACKING_HOOKS is kedro-mlflow's own hook taught to log typed parameters; telemetry is off for everyone
DISABLE_HOOKS_FOR_PLUGINS = ("kedro_mlflow", "kedro-telemetry")

CONFIG_LOADER_ARGS = LOADER_ARGS

logs.install()
