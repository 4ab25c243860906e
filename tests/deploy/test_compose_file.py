"""Rules of docker-compose.yml: checked by functions, each of which finds a mutant out."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mntrading.known_secrets import SECRETS

PROJECT = Path(__file__).parents[2]
BRIEF = {"minio", "setup-minio", "mlflow", "postgres", "app", "api", "streamlit"}
ONCE = {"preflight", "setup-minio"}
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
STORING = {"setup-minio", "mlflow", "app", "api", "streamlit", "airflow", "seaweedfs"}
CHECKER = {"preflight"}
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)(:?[-?])?")

Services = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def composed() -> dict[str, Any]:
    return yaml.safe_load((PROJECT / "docker-compose.yml").read_text())


def environment(service: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in service.get("environment", {}).items()}


# --- the rules: each yields what breaks it ------------------------------------------------------------------


def without_a_health_check(services: Services) -> Iterator[str]:
    for name, service in services.items():
        told = service.get("healthcheck", {})
        if name not in ONCE and (told.get("disable") or told.get("test", ["NONE"])[0] not in ("CMD", "CMD-SHELL")):
            yield name


def open_to_the_network(services: Services) -> Iterator[str]:
    for name, service in services.items():
        yield from (f"{name}: {p}" for p in service.get("ports", ()) if not str(p).startswith("127.0.0.1:"))
        if service.get("network_mode") == "host":
            yield name


def with_rights(services: Services) -> Iterator[str]:
    for name, service in services.items():
        kept = service.get("cap_drop") != ["ALL"] or service.get("cap_add") or service.get("privileged")
        gained = "no-new-privileges:true" not in service.get("security_opt", ())
        if kept or gained or not service.get("read_only") or not service.get("tmpfs"):
            yield name
        if any("docker.sock" in str(volume) for volume in service.get("volumes", ())):
            yield name


def secrets_with_a_default(services: Services) -> Iterator[str]:
    secret = {*SECRETS, "AWS_ACCESS_KEY_ID", "MINIO_ROOT_USER"}
    for name, service in services.items():
        for variable, value in environment(service).items():
            used = dict(_VARIABLE.findall(value))
            # the schedules are off by default; their entrypoint refuses what is empty
            demanded = {found for found, sign in used.items() if sign == ":?" or found.startswith("AIRFLOW_")}
            if (set(used) & secret) - demanded or (variable in secret and not set(used) & secret):
                yield f"{name}: {variable}"


def keys_where_nothing_is_stored(services: Services) -> Iterator[str]:
    for name, service in services.items():
        if name not in STORING | CHECKER and set(KEYS) & set(environment(service)):
            yield name


def images_that_move(services: Services) -> Iterator[str]:
    for name, service in services.items():
        build = service.get("build")
        named = build["args"]["PYTHON_IMAGE"] if build else service["image"]
        if not re.fullmatch(r"\$\{[A-Z_]+:-[a-z./-]+:[\w.-]+@sha256:[0-9a-f]{64}\}", named):
            yield name


def unnamed_volumes(services: Services) -> Iterator[str]:
    for name, service in services.items():
        yield from (f"{name}: {v}" for v in service.get("volumes", ()) if not re.match(r"[a-z]+:/", str(v)))


def started_unchecked(services: Services) -> Iterator[str]:
    """What holds a secret starts after the check of it, or makes the check itself."""
    for name, service in services.items():
        if "build" not in service and "preflight" not in service.get("depends_on", {}):
            yield name


RULES: list[tuple[Callable[[Services], Iterator[str]], str, Callable[[Services], object]]] = [
    (without_a_health_check, "api", lambda s: s["api"].pop("healthcheck")),
    (open_to_the_network, "mlflow", lambda s: s["mlflow"].update(ports=["5000:5000"])),
    (with_rights, "app", lambda s: s["app"].update(cap_drop=[])),
    (with_rights, "api", lambda s: s["api"].update(read_only=False)),
    (
        secrets_with_a_default,
        "minio",
        lambda s: s["minio"]["environment"].update({"MINIO_ROOT_PASSWORD": "${X:-admin}"}),
    ),
    (secrets_with_a_default, "app", lambda s: s["app"]["environment"].update({"AWS_SECRET_ACCESS_KEY": "adminadmin"})),
    (keys_where_nothing_is_stored, "postgres", lambda s: s["postgres"]["environment"].update(AWS_ACCESS_KEY_ID="x")),
    (images_that_move, "postgres", lambda s: s["postgres"].update(image="${POSTGRES_IMAGE:-postgres:17-bookworm}")),
    (images_that_move, "app", lambda s: s["app"]["build"]["args"].update(PYTHON_IMAGE="python:3.11")),
    (unnamed_volumes, "app", lambda s: s["app"].update(volumes=["/:/host"])),
    (started_unchecked, "minio", lambda s: s["minio"].pop("depends_on")),
]


@pytest.mark.parametrize("rule", dict.fromkeys(rule for rule, _, _ in RULES), ids=lambda rule: rule.__name__)
def test_no_service_is(composed, rule):
    assert list(rule(composed["services"])) == []


@pytest.mark.parametrize(("rule", "service", "mutate"), RULES, ids=lambda part: getattr(part, "__name__", ""))
def test_a_mutant_is_found_out(composed, rule, service, mutate):
    services = copy.deepcopy(composed["services"])
    mutate(services)
    assert [found for found in rule(services) if found.startswith(service)]


def test_the_services_of_the_quick_start_are_there_without_a_profile(composed):
    services = composed["services"]
    assert set(services) >= BRIEF
    assert {name for name, service in services.items() if service.get("profiles")} == {"airflow", "seaweedfs"}


def test_every_variable_has_a_line_in_the_example_or_a_default(composed):
    example = (PROJECT / ".env.example").read_text()
    named = set(re.findall(r"^#? ?([A-Z_0-9]+)=", example, re.MULTILINE))
    used = set(_VARIABLE.findall((PROJECT / "docker-compose.yml").read_text()))
    assert sorted(name for name, sign in used if sign != ":-" and name not in named) == []


def test_the_base_is_that_of_the_dockerfile(composed):
    default = re.search(r"^ARG PYTHON_IMAGE=(.*)$", (PROJECT / "Dockerfile").read_text(), re.MULTILINE)[1]
    named = {s["build"]["args"]["PYTHON_IMAGE"] for s in composed["services"].values() if "build" in s}
    assert named == {f"${{PYTHON_IMAGE:-{default}}}"}


def test_volumes_that_are_used_are_named_and_nothing_else_is(composed):
    used = {v.split(":")[0] for service in composed["services"].values() for v in service.get("volumes", ())}
    assert used == set(composed["volumes"])


def test_the_dashboard_asks_for_a_password_that_is_demanded_and_may_be_called_by_loopback_names_alone(composed):
    told = composed["services"]["streamlit"]
    assert environment(told)["MNTRADING_DASHBOARD_PASSWORD"].startswith("${MNTRADING_DASHBOARD_PASSWORD:?")
    assert environment(told)["MNTRADING_API_URL"] == "http://api:8000"
    hosts = [part.partition("=")[2] for part in told["command"] if part.startswith("--server.allowedHosts=")]
    assert sorted(hosts) == ["127.0.0.1", "localhost"]


def test_the_api_keeps_its_queue_in_a_volume(composed):
    api = composed["services"]["api"]
    mounted = [volume.split(":")[1] for volume in api["volumes"]]
    state = Path("/app") / environment(api)["MNTRADING_API_STATE"]
    assert any(state.is_relative_to(place) for place in mounted)


def test_artefacts_go_by_the_server(composed):
    services = composed["services"]
    assert {"--serve-artifacts"} <= set(services["mlflow"]["command"])
    assert [part for part in services["mlflow"]["command"] if part.startswith("--allowed-hosts=")]
    assert environment(services["mlflow"])["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == "false"
    for name in ("app", "api", "airflow"):
        assert environment(services[name])["MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD"] == "false"
        assert environment(services[name])["MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD"] == "false"


def test_the_database_is_reached_by_the_server_alone(composed):
    reach = {name for name, service in composed["services"].items() if "database" in service.get("networks", ())}
    assert reach == {"postgres", "mlflow"}
    assert composed["networks"]["database"]["internal"] is True
