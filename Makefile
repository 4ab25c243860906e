# Two commands do everything on a fresh machine: `make run` and `make test`.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
export DO_NOT_TRACK := 1
export UV_COMPILE_BYTECODE := 1

.PHONY: help install run test lint format lock viz jupyter mlflow markets clean api fuzz-api bench-api
.PHONY: fault-matrix fuzz-bars fuzz-books kill-loop kill-cycle refusals disk-full test-s3 test-services test-rgw canary
.PHONY: audit scaling parity placebo replay test-compose test-airflow env image
.PHONY: bench-cycle dashboard test-browser test-slow
.PHONY: bench-ingest bench-screen bench-features bench-train bench-backtest screen-bars skill

help: ## Show this list
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.uv/bin/uv:
	@echo "Getting uv into .uv"
	@$(PYTHON) -m venv .uv
	@.uv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-uv.lock

$(BIN)/python: | $(UV)
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	  || { echo "$(PYTHON) is $$($(PYTHON) --version); MNTrading needs Python 3.11 to 3.13: make PYTHON=python3.12 …"; exit 1; }
	@$(UV) venv --quiet --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" .venv

.venv/.runtime: requirements.lock pyproject.toml | $(BIN)/python
	@echo "Installing the environment into .venv"
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.dev: requirements-dev.lock .venv/.runtime
	@echo "Installing the test tools into .venv"
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements-dev.lock
	@touch $@

install: .venv/.runtime ## Create .venv from requirements.lock

run: .venv/.runtime ## The whole job on the simulated market: bars to orders and report
	$(BIN)/kedro run
	$(BIN)/kedro run --tags promote,inference,aggregate,shadow,report
	@$(BIN)/python -m mntrading.summary

test: .venv/.dev ## The test suite
	$(BIN)/pytest

lint: .venv/.dev ## Style, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.dev ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

markets: .venv/.runtime ## The whole job on the five simulated markets, held against their truth
	$(BIN)/python benchmarks/markets.py

fault-matrix: .venv/.dev ## Every way an exchange can fail, and what is stored then
	$(BIN)/python tests/faults/fault_matrix.py

fuzz-bars: .venv/.dev ## Generated rows against the checks and the store
	$(BIN)/python tests/faults/fuzz_bars.py --batches 10000

fuzz-books: .venv/.dev ## Generated books through the order builder, against caps, identities and the exchange's rules
	$(BIN)/python tests/faults/books.py --books 5000

kill-loop: .venv/.dev ## Ingestion and every kind of save, killed at random moments
	$(BIN)/python tests/faults/kill_loop.py --kills 280

kill-cycle: .venv/.dev ## A live cycle killed at random moments, and what the next one makes of it
	$(BIN)/python tests/faults/kill_cycle.py --kills 100

shadow-cycle: .venv/.dev ## Challengers in shadow: production's bits, damages, kills, promotion on the record, rollback
	$(BIN)/python tests/faults/shadow_cycle.py

refusals: .venv/.dev ## Every way live inputs can be wrong: what is said, what is traded, what is left
	$(BIN)/python tests/faults/refusals.py

fuzz-api: .venv/.dev ## The API under whatever can be sent to it, and killed while it works
	$(BIN)/python tests/apps/api/fuzz_api.py

disk-full: .venv/.dev ## Every kind of save on a full disk, and with errors in its middle
	$(BIN)/python tests/faults/disk_full.py

.services/swift/.ready: requirements-services.lock | $(UV)
	@echo "Installing an S3 server into .services"
	@$(UV) venv --quiet --clear --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" .services/swift
	@$(UV) pip install --quiet --python .services/swift/bin/python --require-hashes -r requirements-services.lock
	@touch $@

test-slow: .venv/.dev ## The tests that take a minute or more each, which make test leaves out
	MNTRADING_SLOW_TESTS=1 $(BIN)/pytest -m slow

test-s3: .venv/.dev .services/swift/.ready ## Every kind of save on a real S3 server
	MNTRADING_REQUIRE_SERVICES=1 $(BIN)/pytest -n 0 tests/services

test-services: .venv/.dev .services/swift/.ready ## Both cycles on real services, every fault of them, kills, 50 starts
	$(BIN)/python tests/services/services.py

scaling: .venv/.dev .services/swift/.ready ## What grows how with the symbols, on files and with a Dask cluster on S3
	$(BIN)/python tests/services/scaling.py

test-rgw: .venv/.dev ## Both cycles, kills and 50 starts on Ceph's object gateway
	$(BIN)/python tests/services/services.py --store ceph --parts cycles,killed,fenced,starts

canary: .venv/.dev ## Failing runs with secrets in their environment, which must be found nowhere
	$(BIN)/python tests/faults/canary.py

.services/airflow/.ready: requirements-airflow.lock | $(UV)
	@echo "Installing Airflow into .services"
	@$(UV) venv --quiet --clear --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" .services/airflow
	@$(UV) pip install --quiet --python .services/airflow/bin/python --require-hashes -r requirements-airflow.lock
	@touch $@

test-airflow: .venv/.dev .services/airflow/.ready .services/swift/.ready ## Every schedule on a real Airflow, with steps killed and failing
	$(BIN)/python tests/deploy/airflow_runs.py

.services/audit/.ready: requirements-audit.lock | $(UV)
	@echo "Installing pip-audit into .services"
	@$(UV) venv --quiet --clear --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" .services/audit
	@$(UV) pip install --quiet --python .services/audit/bin/python --require-hashes -r requirements-audit.lock
	@touch $@

audit: .services/audit/.ready ## Known vulnerabilities of what the locks pin, where the registry serves advisories
	.services/audit/bin/python tests/deploy/audit.py

test-compose: .venv/.dev ## The stack on a real Docker engine: built, used, killed service by service
	$(BIN)/python tests/deploy/stack.py

env: ## Write .env for docker compose, with secrets of its own
	@PYTHONPATH=src $(PYTHON) -m mntrading.containers.environment

image: ## Build the container image
	docker build --target runtime --build-arg REVISION="$$(git rev-parse HEAD 2>/dev/null || true)" --tag mntrading:latest .

test-browser: .venv/.dev ## The dashboard in Chromium, from an empty project through a full cycle, every page in three looks
	$(BIN)/python tests/browser/dashboard.py

bench-ingest: .venv/.dev ## Bars a second; what an update costs
	$(BIN)/python benchmarks/ingest.py

skill: .venv/.dev ## AUC and lift of every model and fold, on the demo and on real bars
	$(BIN)/python benchmarks/skill.py

bench-train: .venv/.dev ## Fits against LightGBM's and scikit-learn's own; nothing found in noise
	$(BIN)/python benchmarks/train.py

bench-screen: .venv/.dev ## The screen of all pairs against statsmodels, arch and tuned NumPy
	$(BIN)/python benchmarks/screen.py

placebo: .venv/.dev ## The screen where there is nothing to find, and where there is
	$(BIN)/python benchmarks/placebo.py

screen-bars: .venv/.dev ## The screen of real bars: make screen-bars BARS=/path/to/folder
	$(BIN)/python benchmarks/screen_bars.py $(BARS)

bench-features: .venv/.dev ## The rolling spread and all features, against pandas, polars and statsmodels
	$(BIN)/python benchmarks/features.py

.services/vectorbt/.ready: requirements-peers.lock | $(UV)
	@echo "Installing vectorbt into .services"
	@$(UV) venv --quiet --clear --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" .services/vectorbt
	@$(UV) pip install --quiet --python .services/vectorbt/bin/python --require-hashes -r requirements-peers.lock
	@touch $@

bench-backtest: .venv/.dev .services/vectorbt/.ready ## A pair and a sweep against vectorbt, pandas and plain Python, to equal P&L
	$(BIN)/python benchmarks/backtest.py

parity: .venv/.dev ## Live features against those of research, bit for bit
	$(BIN)/python benchmarks/parity.py

replay: .venv/.dev ## A trading window lived through bar by bar, against its backtest
	$(BIN)/python benchmarks/replay.py

bench-api: .venv/.dev ## Requests a second and p99 of the API's reads, beside a bare FastAPI route
	$(BIN)/python benchmarks/api.py

bench-cycle: .venv/.dev ## What a short cycle costs for twenty pairs, cold and warm, and its steps
	$(BIN)/python benchmarks/short_cycle.py

lock: $(UV) ## Resolve the dependencies anew
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --extra build pyproject.toml --output-file requirements.lock
	$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  --extra build --extra dev --constraint requirements.lock pyproject.toml --output-file requirements-dev.lock
	printf 'boto3\ndistributed~=2026.8\npsycopg2-binary~=2.9\n' | $(UV) pip compile --quiet --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate --constraint requirements-dev.lock - \
	  --output-file requirements-server.lock
	echo 'apache-airflow~=3.3.2' | $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --no-annotate - --output-file requirements-airflow.lock
	echo 'swift~=2.38.0' | $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --no-annotate - --output-file requirements-services.lock
	echo 'pip-audit~=2.9' | $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --no-annotate - --output-file requirements-audit.lock
	echo 'vectorbt[rust]~=1.2.0' | $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --no-annotate - --output-file requirements-peers.lock

api: .venv/.runtime ## The HTTP API: MNTRADING_API_TOKEN=… make api, or make api DEMO=1 on this machine alone
	$(BIN)/python -m mntrading.apps.api $(if $(DEMO),--demo)

dashboard: .venv/.runtime ## The dashboard on http://127.0.0.1:8501, beside the API: make api
	$(BIN)/python -m mntrading.apps.dashboard

viz: .venv/.runtime ## Browse the lineage in a browser
	$(BIN)/kedro viz run

jupyter: .venv/.runtime ## Notebooks with the catalog loaded
	$(BIN)/kedro jupyter lab notebooks

mlflow: .venv/.runtime ## Browse the tracked runs in a browser
	$(BIN)/kedro mlflow ui

clean: ## Remove the environment; data stays
	rm -rf .venv .uv .services
