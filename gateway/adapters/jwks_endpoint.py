"""The KeySetSource port over HTTPS."""

from __future__ import annotations

from urllib.parse import urlsplit

from gateway.adapters.hosts import is_local
from gateway.errors import KeySetError, SettingsError
from gateway.identity.jwk import MAX_SET_BYTES

KEY = "auth.jwks_url"
TIMEOUT_S = 10.0


def checked_url(url: str) -> str:
    """The address again. Raises SettingsError unless it is https, or http on this machine, without a password in it."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise SettingsError(KEY, f"not an address: {error}") from error
    if not host or parts.scheme not in ("https", "http"):
        raise SettingsError(KEY, "must be the address of a key set, as https://id.example.com/.well-known/jwks.json")
    if parts.scheme == "http" and not is_local(host):
        raise SettingsError(KEY, "must be https: anyone who can change the answer in transit can pose as any device")
    if parts.username is not None or parts.fragment:
        raise SettingsError(KEY, "must hold neither a user nor a fragment: a key set is public")
    return url


class JwksEndpoint:
    """One address, asked anew each time: it is once in minutes."""

    def __init__(self, url: str) -> None:
        self._url = checked_url(url)

    async def fetch(self) -> bytes:
        """See the port."""
        # A server that asks nobody does not load the client.
        from aiohttp import ClientError, ClientSession, ClientTimeout

        try:
            # Unlike the address of a task's metadata, an issuer may be reachable through a proxy only.
            async with (
                ClientSession(timeout=ClientTimeout(total=TIMEOUT_S), trust_env=True) as session,
                session.get(self._url, allow_redirects=False, headers={"Accept": "application/json"}) as response,
            ):
                if response.status != 200:
                    raise KeySetError(f"{KEY} was answered with HTTP {response.status}")
                body = b""
                async for part in response.content.iter_any():
                    body += part
                    if len(body) > MAX_SET_BYTES:
                        raise KeySetError(f"{KEY} was answered with more than {MAX_SET_BYTES} bytes")
                return body
        except TimeoutError as error:
            raise KeySetError(f"{KEY} was not answered within {TIMEOUT_S:g} s") from error
        except (ClientError, OSError, ValueError) as error:
            raise KeySetError(f"{KEY} cannot be read ({type(error).__name__})") from error
