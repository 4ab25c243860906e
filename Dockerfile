# One image for all services: the project's pipelines, API and dashboard, and the MLflow server.
# The base is pinned to the byte; docs/operations.md#the-image says how the pin is moved.
ARG PYTHON_IMAGE=python:3.11.16-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

FROM ${PYTHON_IMAGE} AS base
# OpenMP's runtime, which LightGBM and scikit-learn load
RUN apt-get update \
 && apt-get install -y --no-install-recommends libgomp1 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*

FROM base AS build
ENV DO_NOT_TRACK=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 UV_NO_CACHE=1 UV_LINK_MODE=copy
COPY requirements-uv.lock /locks/
RUN python -m venv /uv && /uv/bin/pip install --quiet --require-hashes -r /locks/requirements-uv.lock
COPY requirements.lock requirements-server.lock /locks/
# wheels alone: nothing is built from source, so that no compiler is needed and no package's own code runs
RUN /uv/bin/uv venv --quiet --python "$(python -c 'import sys; print(sys.executable)')" /opt/venv \
 && /uv/bin/uv pip install --quiet --python /opt/venv/bin/python --require-hashes --no-build --compile-bytecode \
      -r /locks/requirements.lock -r /locks/requirements-server.lock \
 && find /opt/venv -type d \( -path '*/pandas/tests' -o -path '*/numba/tests' -o -path '*/scipy/*/tests' \
      -o -path '*/numpy/*/tests' -o -path '*/pyarrow/tests' -o -path '*/pyarrow/include' -o -path '*/sklearn/*/tests' \
      -o -path '*/statsmodels/*/tests' -o -path '*/matplotlib/tests' \) -prune -exec rm -rf {} +
COPY src /app/src
RUN /opt/venv/bin/python -m compileall -q /app/src

FROM base AS runtime-base
ARG REVISION=""
LABEL org.opencontainers.image.title="MNTrading" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${REVISION}"
# the home is a tmpfs, and compiled kernels are kept in a volume: the root file system may be read-only
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app/src \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    NUMBA_CACHE_DIR=/var/cache/mntrading \
    DO_NOT_TRACK=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    STREAMLIT_BROWSER_GATHER_USAGE_STATS=false \
    MNTRADING_REVISION=${REVISION}
RUN groupadd --gid 10001 mntrading \
 && useradd --uid 10001 --gid mntrading --no-create-home --home-dir /tmp --shell /usr/sbin/nologin mntrading \
 && install -d -o mntrading -g mntrading -m 0750 /app/data /var/cache/mntrading
WORKDIR /app
COPY --from=build /opt/venv /opt/venv
COPY pyproject.toml README.md LICENSE .telemetry ./
COPY conf conf
COPY --from=build /app/src src
USER 10001:10001
VOLUME ["/app/data", "/var/cache/mntrading"]
ENTRYPOINT ["python", "-m", "mntrading.containers.entrypoint"]

# The schedules, in an environment of their own beside the project's.
FROM build AS airflow-build
COPY requirements-airflow.lock /locks/
RUN /uv/bin/uv venv --quiet --python "$(python -c 'import sys; print(sys.executable)')" /opt/airflow-venv \
 && /uv/bin/uv pip install --quiet --python /opt/airflow-venv/bin/python --require-hashes --no-build --compile-bytecode \
      -r /locks/requirements-airflow.lock

FROM runtime-base AS airflow
USER root
RUN install -d -o mntrading -g mntrading -m 0750 /var/lib/airflow
COPY --from=airflow-build /opt/airflow-venv /opt/airflow-venv
COPY dags /app/dags
# Airflow starts its parts by its own name; the project's python and kedro come before its own
ENV PATH=$PATH:/opt/airflow-venv/bin \
    AIRFLOW_HOME=/var/lib/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/app/dags \
    AIRFLOW__CORE__LOAD_EXAMPLES=False \
    AIRFLOW__USAGE_DATA_COLLECTION__ENABLED=False \
    MNTRADING_BIN=/opt/venv/bin/kedro \
    MNTRADING_PROJECT=/app
USER 10001:10001
VOLUME ["/var/lib/airflow"]
CMD ["/opt/airflow-venv/bin/airflow", "standalone"]

FROM runtime-base AS runtime
CMD ["kedro", "info"]
