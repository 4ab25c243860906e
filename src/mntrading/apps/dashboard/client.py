"""The API as the dashboard calls it; the only module that speaks HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

import httpx

Kind = Literal["down", "denied", "refused"]


class ApiError(Exception):
    """The API did not do what it was asked.

    Parameters
    ----------
    kind
        ``down`` where it can't be reached or is broken, ``denied`` where it does not know the token, ``refused`` where
        it says no.
    what
        In words.
    fix
        What to run next, if that is known.
    errors
        What is wrong with single parameters: pointer and message.
    """

    def __init__(self, kind: Kind, what: str, fix: str | None = None, errors: tuple[tuple[str, str], ...] = ()) -> None:
        self.kind, self.what, self.fix, self.errors = kind, what, fix, errors
        super().__init__(what)


@dataclass(frozen=True)
class Pipeline:
    """A pipeline that can be started."""

    name: str
    description: str


class Client:
    """Calls the API with the server's token, which never leaves this object.

    Parameters
    ----------
    url
        Where it listens.
    token
        None where there is none: an API in demo mode asks for none.
    timeout
        Seconds an answer may take.
    """

    def __init__(self, url: str, token: str | None, *, timeout: float = 5.0) -> None:
        self.url, self.has_token = url, token is not None
        headers = {"Accept": "application/json"} | ({} if token is None else {"Authorization": f"Bearer {token}"})
        # no proxy and no redirect: the token goes to the address that was set and nowhere else
        self._http = httpx.Client(
            base_url=url, headers=headers, timeout=timeout, trust_env=False, follow_redirects=False
        )

    def __repr__(self) -> str:
        return f"Client({self.url})"

    def ready(self) -> dict[str, Any]:
        """Whether the API can run something, and what of it can't; an answer too when it is not ready."""
        return dict(self._call("GET", "/ready", also=(503,)))

    def pipelines(self) -> tuple[Pipeline, ...]:
        """What can be started."""
        found = self._call("GET", "/pipelines")["pipelines"]
        return tuple(Pipeline(one["name"], one["description"]) for one in found)

    def parameters(self, pipeline: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """JSON schema of the parameters a run may be given, and the values it has without."""
        found = self._call("GET", f"/parameters/{_part(pipeline)}")
        return found["schema"], found["values"]

    def start(self, pipeline: str, parameters: Mapping[str, Any], key: str) -> dict[str, Any]:
        """Start a run; the same key again is the same run."""
        body = {"parameters": dict(parameters)} if parameters else {}
        found = self._call("POST", f"/run/{_part(pipeline)}", json=body, headers={"Idempotency-Key": key})
        return dict(found)

    def runs(self, limit: int = 50) -> list[dict[str, Any]]:
        """Runs, the newest first."""
        return list(self._call("GET", "/runs", params={"limit": limit})["runs"])

    def run(self, id_: str, log_lines: int = 200) -> dict[str, Any]:
        """One run with the end of its log."""
        return dict(self._call("GET", f"/runs/{_part(id_)}", params={"log_lines": log_lines}))

    def cancel(self, id_: str) -> dict[str, Any]:
        """Ask a run to end."""
        return dict(self._call("POST", f"/runs/{_part(id_)}/cancel"))

    def _call(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        also: tuple[int, ...] = (),
    ) -> Any:
        try:
            answer = self._http.request(method, path, json=json, params=params, headers=headers)
        except httpx.HTTPError as error:
            raise ApiError(
                "down", f"The API at {self.url} can't be reached ({type(error).__name__}).", "make api"
            ) from error
        if answer.status_code in (401, 403):
            raise self._denied()
        if answer.is_success or answer.status_code in also:
            try:
                return answer.json()
            except ValueError as error:
                raise ApiError("down", f"What answers at {self.url} is not the API.") from error
        raise _refused(answer)

    def _denied(self) -> ApiError:
        if self.has_token:
            return ApiError("denied", "The API does not know the token in MNTRADING_API_TOKEN.")
        return ApiError(
            "denied", "The API asks for a token, and the dashboard was started without MNTRADING_API_TOKEN."
        )


def _part(text: str) -> str:
    return quote(text, safe="")


def _refused(answer: httpx.Response) -> ApiError:
    try:
        problem = answer.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        return ApiError("down", f"What answers at the API's address says {answer.status_code}.")
    errors = tuple((str(one.get("pointer", "")), str(one.get("detail", ""))) for one in problem.get("errors") or ())
    what = str(problem.get("detail") or problem.get("title") or f"The API says {answer.status_code}.")
    return ApiError("down" if answer.status_code >= 500 else "refused", what, problem.get("next"), errors)
