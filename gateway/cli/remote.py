"""A gateway that runs elsewhere, through its operations listener. Blocks."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Any
from urllib.parse import urlencode, urlsplit

from gateway.errors import RefusedError, SettingsError, UnreachableError

_TIMEOUT_S = 10.0
_DRAIN = "/api/v1/drain"
_KEY = re.compile(r"[!-~]{1,255}")


class Remote:
    """`url` is the address of the operations listener; `token` gives a JWT for each call."""

    def __init__(self, url: str, token: Callable[[], str]) -> None:
        if not _is_address(url):
            raise SettingsError("--url", f"{url!r} is not an HTTP address; write http://127.0.0.1:8081")
        self._base = url.rstrip("/")
        self._token = token

    def call(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        timeout_s: float = _TIMEOUT_S,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """The answer of an operation. Raises UnreachableError or RefusedError."""
        data = None if body is None else json.dumps(body).encode()
        return self._send(method, path, data, "application/json", timeout_s, headers or {})

    def send_text(self, method: str, path: str, text: bytes, kind: str) -> dict[str, Any]:
        """The same with a body that is no JSON of ours; `kind` is its media type."""
        return self._send(method, path, text, kind, _TIMEOUT_S, {})

    def _send(
        self, method: str, path: str, data: bytes | None, kind: str, timeout_s: float, more: Mapping[str, str]
    ) -> dict[str, Any]:
        url = self._base + path
        headers = {"Authorization": f"Bearer {self._token()}", "Content-Type": kind, **more}
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects())
        try:
            request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - checked above
            with opener.open(request, timeout=timeout_s) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except urllib.error.HTTPError as error:
            problem = _problem(error)
            said = f"{url.partition('?')[0]}: {error.code} {problem.get('detail', error.reason)}"
            raise RefusedError(said, error.code, problem.get("errors") or ()) from error
        except (OSError, ValueError, HTTPException) as error:
            raise UnreachableError(f"{self._base} cannot be reached: {_why(error)}") from error


class RemoteDrain:
    """The drain of a gateway that runs elsewhere; the token needs the scope admin."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def status(self) -> dict[str, Any]:
        """Where it stands. Each of these raises UnreachableError or RefusedError."""
        return self._remote.call("GET", _DRAIN)

    def plan(self, window_s: float | None, tasks: int) -> dict[str, Any]:
        """What a drain would do."""
        query = {"tasks": tasks, **({} if window_s is None else {"window_s": window_s})}
        return self._remote.call("GET", f"{_DRAIN}/plan?{urlencode(query)}")

    def strategy(self, strategy: str, tasks: int, connections: int) -> dict[str, Any]:
        """What a deployment by weights would do; `connections` 0: with those that there are."""
        query: dict[str, str | int] = {"strategy": strategy.strip().lower(), "tasks": tasks}
        if connections:
            query["connections"] = connections
        return self._remote.call("GET", f"{_DRAIN}/strategy?{urlencode(query)}")

    def start(self, window_s: float | None) -> dict[str, Any]:
        """Begin."""
        return self._remote.call("POST", _DRAIN, {} if window_s is None else {"window_s": window_s})

    def cancel(self) -> dict[str, Any]:
        """Take it back."""
        return self._remote.call("DELETE", _DRAIN)


def idempotency(key: str | None) -> dict[str, str]:
    """The header of an idempotency key; None: there is none. Raises SettingsError for what cannot be one."""
    if key is None:
        return {}
    if not _KEY.fullmatch(key):
        raise SettingsError("--key", "must have 1 to 255 printable characters of ASCII, and no space")
    return {"Idempotency-Key": key}


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and url.isprintable()
    except ValueError:
        return False


def _why(error: Exception) -> str:
    """What the system said, as a person says it."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror[:1].lower() + reason.strerror[1:]
    return str(reason)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The token is for this address only."""

    def redirect_request(self, *_: object) -> None:
        return None


def _problem(error: urllib.error.HTTPError) -> dict[str, Any]:
    try:
        found = json.load(error)
    except (ValueError, OSError):
        return {}
    return found if isinstance(found, dict) else {}
