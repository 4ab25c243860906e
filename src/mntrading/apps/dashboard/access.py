"""Who may see the dashboard: on loopback everybody on this machine, elsewhere only who knows the password."""

from __future__ import annotations

import hmac
import ipaddress
from collections import deque
from typing import Final

from mntrading.core.errors import ParameterError
from mntrading.known_secrets import check_secret

PASSWORD: Final = "MNTRADING_DASHBOARD_PASSWORD"  # noqa: S105 - the name, not the password
MAKE_ONE: Final = (
    """export MNTRADING_DASHBOARD_PASSWORD="$(python3 -c 'import secrets; print(secrets.token_urlsafe(16))')\""""
)


def is_loopback(address: str | None) -> bool:
    """Whether an address can be reached from this machine alone; None is every address."""
    if not address:
        return False
    if address.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return False


def check_exposure(address: str | None, password: str | None) -> None:
    """Refuse to be reached from elsewhere without a password: the buttons start runs with the server's token.

    Raises
    ------
    ParameterError
        The address is not loopback and there is no password, or one that could be guessed.
    """
    if password is None:
        if not is_loopback(address):
            raise ParameterError(
                f"the dashboard would listen on {address or 'every address'} without a password, and whoever opens it "
                "could start runs",
                where=PASSWORD,
                fix=MAKE_ONE,
            )
        return
    check_secret(PASSWORD, password, MAKE_ONE)


def is_right(given: str, password: str) -> bool:
    """Whether a password is the one, in a time that does not tell how much of it is right."""
    return hmac.compare_digest(given.encode(), password.encode())


class Throttle:
    """Counts refused passwords of all visitors; too many in a minute and nobody is let in until it is over.

    Parameters
    ----------
    most
        Refusals within ``seconds``.
    seconds
        How long they count.
    """

    def __init__(self, most: int = 10, seconds: float = 60.0) -> None:
        self._most, self._seconds = most, seconds
        self._refused: deque[float] = deque(maxlen=most)

    def wait(self, now: float) -> float:
        """Seconds until another password may be tried; 0 for now."""
        if len(self._refused) < self._most:
            return 0.0
        return max(self._refused[0] + self._seconds - now, 0.0)

    def refuse(self, now: float) -> None:
        """Count one."""
        self._refused.append(now)
