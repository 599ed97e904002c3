"""Origins (RFC 6454): brought into the one form in which they can be compared. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address

from gateway.errors import SettingsError

NULL = "null"
_DEFAULT_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
# scheme, host, port, and what no origin has: some libraries send a whole URL.
_ORIGIN = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>\[[0-9a-f:.]+\]|[^\x00-\x20/?#@:*\[\]\\,]*)(?::(?P<port>[0-9]{1,5}))?(?P<rest>[/?#].*)?",
    re.IGNORECASE,
)
# Pages have no other; extensions and views of applications are pages as well.
_OF_PAGES = re.compile(r"(https?|[a-z]+(-web)?-extension|app|capacitor|ionic|tauri)://[^/?#]+", re.IGNORECASE)


def normal(origin: str) -> str:
    """The origin as a browser writes it: scheme and host in small letters, no default port, no lone slash at its end.

    What is no origin is returned as it is, and equals only itself.
    """
    found = _ORIGIN.fullmatch(origin.strip())
    if found is None:
        return origin.strip()
    scheme, rest = found["scheme"].lower(), found["rest"] or ""
    port = int(found["port"]) if found["port"] else None
    shown = "" if port is None or port == _DEFAULT_PORTS.get(scheme) else f":{port}"
    return f"{scheme}://{_host(found['host'])}{shown}{'' if rest == '/' else rest}"


def allowed_origins(key: str, text: str) -> frozenset[str]:
    """Origins separated by commas, in their normal form. Raises SettingsError for what no client can send."""
    return frozenset(_checked(key, part.strip()) for part in text.split(",") if part.strip())


def unusual(origins: Iterable[str]) -> list[str]:
    """Those that no browser sends for a page. Some device libraries do send them."""
    return sorted(origin for origin in origins if not _OF_PAGES.fullmatch(origin))


def _checked(key: str, origin: str) -> str:
    if "*" in origin:
        raise SettingsError(key, f"{origin!r}: there is no wildcard; list each origin, such as https://app.example.com")
    found = _ORIGIN.fullmatch(origin)
    port = found["port"] if found else None
    if origin != NULL and (found is None or (port and not 0 < int(port) <= 65_535) or not origin.isprintable()):
        raise SettingsError(
            key, f"{origin!r} is not an origin; one is https://app.example.com or http://localhost:3000"
        )
    return normal(origin)


def _host(text: str) -> str:
    if text.startswith("["):
        try:
            return f"[{ip_address(text[1:-1])}]"
        except ValueError:
            return text.lower()
    try:
        # What browsers send of a name in other letters.
        return text.lower() if text.isascii() else text.lower().encode("idna").decode()
    except UnicodeError:
        return text.lower()
