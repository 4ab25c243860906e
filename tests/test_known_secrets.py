"""Secrets that are refused, and those that are not."""

from __future__ import annotations

import secrets

import pytest

from mntrading.core.errors import ParameterError
from mntrading.known_secrets import SECRETS, check_secrets

PUBLIC = [
    "minioadmin", "adminadmin", "admin", "password", "Password123!", "postgres", "changeme", "change-me", "mlflow",
    "airflow", "minioadminminioadmin", "admin-admin-admin-admin-admin-admin-admin", "mlflow_postgres_password_2026",
    "0123", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "short-Xk29!", "",
]  # fmt: skip


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("value", PUBLIC)
def test_a_secret_anybody_could_guess_is_refused_by_name_and_never_told(name, value):
    with pytest.raises(ParameterError) as refused:
        check_secrets({name: value})
    assert refused.value.where == name
    assert "make env" in str(refused.value)
    if len(value) > 5 and value not in ("mlflow", "airflow", "postgres", "password", "mntrading"):
        assert value not in str(refused.value)


@pytest.mark.parametrize("name", SECRETS)
def test_generated_secrets_pass(name):
    for _ in range(300):
        check_secrets({name: secrets.token_urlsafe(32)})
        check_secrets({name: secrets.token_hex(32)})


def test_what_is_no_secret_or_not_set_is_not_looked_at():
    check_secrets({"MINIO_ROOT_USER": "admin", "PATH": "/bin"})
