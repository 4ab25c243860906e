"""Secrets that anybody could guess, and the refusal to start with one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mntrading.core.errors import ParameterError

SECRETS: Final = {
    "MINIO_ROOT_PASSWORD": 16,
    "AWS_SECRET_ACCESS_KEY": 16,
    "POSTGRES_PASSWORD": 16,
    "MNTRADING_API_TOKEN": 32,
    "MNTRADING_DASHBOARD_PASSWORD": 16,
    "AIRFLOW_API_SECRET_KEY": 32,
    "AIRFLOW_JWT_SECRET": 32,
}
"""Environment variables that hold a secret, and the characters each must have at least."""

_KNOWN: Final = frozenset(
    [
        *("admin", "adminadmin", "administrator", "airflow", "changeit", "changeme", "default", "example", "guest"),
        *("letmein", "minio", "minioadmin", "mlflow", "mntrading", "passwrd", "password", "postgres"),
        *("qwerty", "root", "scrt", "secret", "test", "token", "user", "weed"),
    ]
)
"""What images, tutorials and keyboards suggest, without digits, signs and capitals."""

_NEXT: Final = "make env writes a .env with generated secrets where there is none; openssl rand -hex 32 makes one"


def check_secrets(environment: Mapping[str, str]) -> None:
    """Refuse secrets of the environment that are known, short or made of a known one.

    Variables that are not set are not looked at: what a service must have, its own settings demand.

    Parameters
    ----------
    environment
        Variables by name.

    Raises
    ------
    ParameterError
        Names the variable, never its value.
    """
    for name in SECRETS:
        value = environment.get(name)
        if value is not None:
            check_secret(name, value)


def check_secret(name: str, value: str, fix: str = _NEXT) -> None:
    """Refuse the value of one of ``SECRETS`` that is known, short or made of a known one.

    Parameters
    ----------
    name
        The variable.
    value
        What it is set to.
    fix
        What to do, where it is not about ``.env``.

    Raises
    ------
    ParameterError
        Names the variable, never its value.
    """
    least = SECRETS[name]
    if _bare(value) in _KNOWN:
        raise ParameterError("a default that everybody knows is no secret", where=name, fix=fix)
    if len(value) < least:
        raise ParameterError(f"has {len(value)} characters, at least {least} are needed", where=name, fix=fix)
    if len(set(value)) < least // 3 or _made_of_known(value):
        raise ParameterError("is a default or a repetition that is easily guessed", where=name, fix=fix)


def _bare(value: str) -> str:
    """A value without what is put around a word to make it pass for a password."""
    return "".join(character for character in value.lower() if character.isalpha())


def _made_of_known(value: str) -> bool:
    """Whether nothing is left of a value once the known words are taken out."""
    left = _bare(value)
    for word in sorted(_KNOWN, key=len, reverse=True):
        left = left.replace(word, "")
    return len(left) < len(_bare(value)) // 4
