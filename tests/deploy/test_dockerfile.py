"""Rules of the Dockerfile and of what is sent to its builder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from mntrading.known_secrets import SECRETS

PROJECT = Path(__file__).parents[2]
TEXT = (PROJECT / "Dockerfile").read_text()
STAGES = re.split(r"^(?=FROM )", TEXT, flags=re.MULTILINE)[1:]


def test_nothing_is_fetched_by_the_dockerfile_but_the_base_and_no_frontend_either():
    names = [re.match(r"FROM (\S+) AS (\S+)", stage).groups() for stage in STAGES]
    known = {"${PYTHON_IMAGE}"}
    for base, name in names:
        assert base in known
        known.add(name)
    copied = re.findall(r"--from=(\S+)", TEXT)
    assert set(copied) <= known
    assert not re.search(r"^#\s*syntax", TEXT, re.MULTILINE)
    assert "<<" not in TEXT
    assert re.search(r"^ARG PYTHON_IMAGE=python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64}$", TEXT, re.MULTILINE)


@pytest.mark.parametrize("stage", ["airflow", "runtime"])
def test_a_stage_that_runs_ends_as_a_user_without_rights(stage):
    chain, wanted = [], stage
    while True:
        found = [text for text in STAGES if re.match(rf"FROM \S+ AS {wanted}\n", text)]
        if not found:
            break
        chain.insert(0, found[0])
        wanted = found[0].split()[1]
    users = re.findall(r"^USER (\S+)", "".join(chain), re.MULTILINE)
    assert users[-1] == "10001:10001"
    assert re.search(r"^ENTRYPOINT \[", "".join(chain), re.MULTILINE)


def test_the_default_stage_is_the_one_without_schedules():
    assert STAGES[-1].split()[3] == "runtime"


def test_every_package_is_installed_from_a_lock_with_hashes():
    installs = re.findall(r"pip install[^&]*", TEXT.replace("\\\n", " "))
    assert len(installs) == 3
    assert all("--require-hashes" in install and ".lock" in install for install in installs)


def test_no_secret_is_built_in():
    assert not [name for name in SECRETS if name in TEXT]
    assert not re.search(r"^(ARG|ENV) .*(PASSWORD|TOKEN|SECRET)", TEXT, re.MULTILINE)


def test_telemetry_is_off_and_what_is_written_goes_where_it_may():
    for line in ("DO_NOT_TRACK=1", "STREAMLIT_BROWSER_GATHER_USAGE_STATS=false", "MLFLOW_DISABLE_TELEMETRY=true"):
        assert line in TEXT
    assert "NUMBA_CACHE_DIR=/var/cache/mntrading" in TEXT
    assert "HOME=/tmp" in TEXT


def test_the_builder_is_sent_what_is_named_and_no_environment_file():
    lines = (PROJECT / ".dockerignore").read_text().split("\n")
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert not [rule for rule in rules if rule.startswith("!") and rule[1:].startswith((".env", "data", ".git"))]
    assert ".env*" in rules[[rule.startswith("!") for rule in rules].index(True) :]


def locked(name: str) -> dict[str, str]:
    lines = (PROJECT / name).read_text().splitlines()
    return dict(line.split(" ")[0].split("==") for line in lines if re.match(r"^[a-z0-9]", line))


def test_the_servers_lock_has_its_extras_and_agrees_with_the_projects():
    import tomllib

    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    server, runtime = locked("requirements-server.lock"), locked("requirements.lock")
    extras = project["optional-dependencies"]
    wanted = {Requirement(text).name for extra in ("server", "dask") for text in extras[extra]}
    assert wanted <= set(server)
    assert not {
        name: (server[name], runtime[name]) for name in set(server) & set(runtime) if server[name] != runtime[name]
    }


def test_the_stages_agree_on_the_apt_and_locks_that_are_copied():
    copied = set(re.findall(r"requirements[-a-z]*\.lock", TEXT))
    assert all((PROJECT / name).exists() for name in copied)
