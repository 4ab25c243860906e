"""Text without the secrets in it: what goes to logs, run records, trackers and terminals passes through here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

HIDDEN: Final = "***"

_SECRET_NAME: Final = re.compile(
    r"(SECRET|TOKEN|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|PRIVATE|API_?KEY|ACCESS_?KEY|SIGNATURE|ROOT_USER)",
    re.IGNORECASE,
)
_SHORTEST: Final = 6  # a shorter value would hide half of every text
_USER_INFO: Final = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*://)[^/\s@'\"]*@")
_SIGNED: Final = re.compile(
    r"(?P<name>(?:X-Amz-(?:Signature|Credential|Security-Token)|Signature|AWSAccessKeyId)=)[^&\s'\"]+"
)


def is_secret(name: str) -> bool:
    """Whether a variable or parameter of this name holds what nobody else may read."""
    return _SECRET_NAME.search(name) is not None


def secrets_of(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Values of an environment that must not be told: by the names of variables, and the user part of addresses.

    Longest first, so that a value which begins with another one is hidden whole.
    """
    found = {value for name, value in environment.items() if is_secret(name) and not value.isdigit()}
    for value in environment.values():
        for match in _USER_INFO.finditer(value):
            user_info = match.group().removeprefix(match["scheme"]).removesuffix("@")
            found |= {user_info, *user_info.split(":", 1)[1:]}
    found |= {unquote(value) for value in found}
    return tuple(sorted((value for value in found if len(value) >= _SHORTEST), key=lambda value: (-len(value), value)))


def redact(text: str, secrets: tuple[str, ...] = ()) -> str:
    """The text without these secrets, without users and passwords in addresses, and without signatures of URLs."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    text = _USER_INFO.sub(rf"\g<scheme>{HIDDEN}@", text)
    return _SIGNED.sub(rf"\g<name>{HIDDEN}", text)


def redact_tree(value: Any, secrets: tuple[str, ...] = ()) -> Any:
    """The same of every text in nested mappings and sequences; values of secret names are hidden whole."""
    if isinstance(value, str):
        return redact(value, secrets)
    if isinstance(value, Mapping):
        return {
            name: HIDDEN if is_secret(str(name)) and item is not None else redact_tree(item, secrets)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [redact_tree(item, secrets) for item in value]
    return value
