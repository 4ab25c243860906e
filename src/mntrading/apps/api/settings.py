"""Settings of the API: from the environment and the command line, checked before anything listens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mntrading.configuration import configured, is_remote, local_root
from mntrading.core.errors import ParameterError
from mntrading.known_secrets import SECRETS, check_secret

TOKEN: Final = "MNTRADING_API_TOKEN"  # noqa: S105 - the name, not the token
MAKE_TOKEN: Final = f"""export {TOKEN}="$(python3 -c 'import secrets; print(secrets.token_urlsafe(32))')\""""
MIN_TOKEN: Final = SECRETS[TOKEN]
_MIN_DISTINCT: Final = 10
_WEAK: Final = (
    "changeme", "change-me", "change_me", "replaceme", "password", "passw0rd", "secret", "admin", "letmein", "qwerty",
    "default", "example", "placeholder", "mntrading", "insecure", "your-token", "yourtoken", "token", "bearer",
    "12345678", "87654321", "abcdefgh",
)  # fmt: skip
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?|[0-9a-f:]+")
_ORIGIN: Final = re.compile(r"https?://[a-z0-9.\-]+(:\d{1,5})?|https?://\[[0-9a-f:]+\](:\d{1,5})?")


@dataclass(frozen=True, repr=False)
class Settings:
    """What the API is started with; never printed, for the token is in it.

    Parameters
    ----------
    project
        The project's folder.
    env
        Configuration environment of everything read and run; None for ``local``.
    token
        What every request but one for liveness must bear; None in a demo without one.
    host, port
        Where it listens.
    allowed_hosts
        Names by which it may be called, without ports; loopback names are always among them.
    allowed_origins
        Origins of pages that may call it from a browser.
    state
        Local folder of the queue.
    demo
        Whether it is a demo, on loopback alone.
    short_cycle_now
        Whether ``GET /run/short_cycle_now`` is there.
    max_body_bytes
        Largest body of a request.
    max_queued
        Runs that may wait.
    max_failures
        Refused tokens a client may send in a minute before it is told to wait.
    grace_seconds
        How long a cancelled run may take to end by itself.
    max_data_age_minutes
        Age of the newest orders beyond which the API is not ready; None for any.
    """

    project: Path
    env: str | None
    token: str | None
    host: str
    port: int
    allowed_hosts: frozenset[str]
    allowed_origins: frozenset[str]
    state: Path
    demo: bool = False
    short_cycle_now: bool = False
    max_body_bytes: int = 65_536
    max_queued: int = 500
    max_failures: int = 20
    grace_seconds: float = 10.0
    max_data_age_minutes: int | None = None

    def __repr__(self) -> str:
        return f"Settings({self.host}:{self.port}, env={self.env!r}, demo={self.demo})"


def read(
    environ: Mapping[str, str],
    project: Path,
    *,
    env: str | None = None,
    host: str | None = None,
    port: int | None = None,
    demo: bool = False,
) -> Settings:
    """Settings from the environment, and from the command line, which wins.

    Raises
    ------
    ParameterError
        There is no token and it is no demo, the token is weak, a demo would listen beyond loopback, or a setting is
        malformed.
    """
    host = host or environ.get("MNTRADING_API_HOST") or LOOPBACK[0]
    port = port or _number(environ, "MNTRADING_API_PORT", 8000, 65_535)
    token = environ.get(TOKEN) or None
    if token is None and not demo:
        raise ParameterError("there is no token", where=TOKEN, fix=f"{MAKE_TOKEN}, or --demo on this machine alone")
    if token is not None:
        check_token(token)
    if demo and host not in LOOPBACK:
        raise ParameterError(f"a demo listens on loopback alone, not on {host}", where="--demo", fix=MAKE_TOKEN)
    env = env or environ.get("KEDRO_ENV") or None
    now = environ.get("MNTRADING_API_SHORT_CYCLE_NOW", "").lower() in ("1", "true", "yes")
    if now and token is None:
        raise ParameterError(
            "GET /run/short_cycle_now needs a token", where="MNTRADING_API_SHORT_CYCLE_NOW", fix=MAKE_TOKEN
        )
    age = "MNTRADING_API_MAX_DATA_AGE_MINUTES"
    return Settings(
        project=project,
        env=env,
        token=token,
        host=host,
        port=port,
        allowed_hosts=frozenset({*LOOPBACK, *_listed(environ, "MNTRADING_API_ALLOWED_HOSTS", _HOST)}),
        allowed_origins=frozenset(_listed(environ, "MNTRADING_API_ALLOWED_ORIGINS", _ORIGIN)),
        state=_state(environ, project, env),
        demo=demo,
        short_cycle_now=now,
        max_queued=_number(environ, "MNTRADING_API_MAX_QUEUED", 500, 100_000),
        max_data_age_minutes=_number(environ, age, 1, 10_000_000) if environ.get(age) else None,
    )


def check_token(token: str) -> None:
    """Refuse a token that could be guessed.

    Raises
    ------
    ParameterError
        It is too short, too uniform, repeats itself, has a well-known word in it, or characters no header should have.
    """
    plain = token.lower()
    reason = None
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        reason = "has characters other than visible ASCII ones"
    elif len(token) < MIN_TOKEN:
        reason = f"has {len(token)} characters, fewer than {MIN_TOKEN}"
    elif len(set(token)) < _MIN_DISTINCT:
        reason = f"is made of {len(set(token))} different characters, fewer than {_MIN_DISTINCT}"
    elif any(plain == (plain[:period] * len(plain))[: len(plain)] for period in range(1, len(plain) // 2 + 1)):
        reason = "repeats itself"
    elif any(word in plain for word in _WEAK):
        reason = "contains a word that everybody tries first"
    if reason is not None:
        raise ParameterError(f"the token {reason}", where=TOKEN, fix=MAKE_TOKEN)
    check_secret(TOKEN, token, MAKE_TOKEN)


def _state(environ: Mapping[str, str], project: Path, env: str | None) -> Path:
    """Folder of the queue: below a local storage root, else below the project."""
    named = environ.get("MNTRADING_API_STATE")
    if named:
        return (project / named).resolve()
    root = str(configured(project / "conf", "globals", env)["storage"]["root"])
    return project / ".mntrading" / (env or "local") if is_remote(root) else local_root(root) / ".api"


def _number(environ: Mapping[str, str], name: str, default: int, most: int) -> int:
    text = environ.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= most:
        raise ParameterError(f"{text!r} is no number from 1 to {most}", where=name)
    return int(text)


def _listed(environ: Mapping[str, str], name: str, pattern: re.Pattern[str]) -> list[str]:
    parts = [part.strip().lower().strip("[]") if pattern is _HOST else part.strip().lower()
             for part in environ.get(name, "").split(",") if part.strip()]  # fmt: skip
    for part in parts:
        if not pattern.fullmatch(part):
            raise ParameterError(f"{part!r} is not of the expected form", where=name, fix="names, separated by commas")
    return parts
