"""JSON Web Tokens as far as this gateway needs them: HS256, and what the claims must say (RFC 7519, RFC 8725).

HS256 is checked here and not by PyJWT, which loads OpenSSL's Python binding (11.5 MB) into every process and takes
four times as long; PyJWT is the oracle of the tests, and does the public-key algorithms (`auth.py`).
"""

from __future__ import annotations

import binascii
import hmac
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import msgspec

from gateway.decoding import decoder
from gateway.errors import TokenError
from gateway.identity.identity import Identity, name_problem

MAX_TOKEN_BYTES = 8192
MAX_TIME_S = 253_402_300_799.0  # the end of the year 9999: a later time is one in milliseconds
MIN_SECRET_BYTES = 32  # RFC 7518, 3.2: a key of the size of the hash output or larger


class Claims(msgspec.Struct, frozen=True):
    """The claims that are read; all others are ignored. Times are seconds since the Unix epoch."""

    sub: str
    exp: float
    account: str = "default"
    scope: str = ""
    nbf: float | None = None
    iss: str | None = None
    aud: str | list[str] | None = None
    device_class: str = msgspec.field(default="", name="class")


# Checks the signature of a token. Raises TokenError.
Verify = Callable[[str], Claims]


class Header(msgspec.Struct, frozen=True):
    """`kid` "": the token names no key."""

    alg: str
    kid: str = ""
    crit: list[str] | msgspec.UnsetType = msgspec.UNSET


_decode_header = decoder(Header)
_decode_claims = decoder(Claims)
_scopes: dict[str, frozenset[str]] = {}
_MAX_SCOPES = 1024
_USUAL_HEADER_CHARS = 256
_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_", b"+/")


def mint(claims: Mapping[str, Any], secret: bytes) -> str:
    """A token signed with HS256."""
    signed = b".".join(_encode(msgspec.json.encode(part)) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    return (signed + b"." + _encode(hmac.digest(secret, signed, "sha256"))).decode()


def header_algorithm(token: str) -> str:
    """The `alg` a token names. Raises TokenError."""
    return header_of(token).alg


def header_of(token: str) -> Header:
    """The header of a token. Raises TokenError: not a token, or one with critical headers (RFC 7515, 4.1.11)."""
    encoded = token.partition(".")[0]
    return _usual_header(encoded) if len(encoded) <= _USUAL_HEADER_CHARS else _header(encoded)


def _header(encoded: str) -> Header:
    try:
        header = _decode_header(from_base64url(encoded.encode()))
    except (ValueError, msgspec.DecodeError) as error:
        raise TokenError("not a JWT") from error
    # RFC 7515, 4.1.11: a reader that does not understand one must refuse the token; an empty list is not allowed.
    if header.crit is not msgspec.UNSET:
        raise TokenError("the token has critical headers that are not understood")
    return header


# An issuer writes the same header into all of its tokens. What is kept may be anybody's: the signature comes later.
_usual_header = lru_cache(64)(_header)


def verify_hs256(token: str, secret: bytes) -> Claims:
    """Check the signature, then read the claims. Raises TokenError; nothing of an unsigned token is believed."""
    if len(token) > MAX_TOKEN_BYTES:
        raise TokenError(f"the token is longer than {MAX_TOKEN_BYTES} bytes")
    # RFC 8725, 3.1: the algorithm is decided by the key we hold; one that names another is refused, `none` included.
    if header_algorithm(token) != "HS256":
        raise TokenError("the token is not signed with HS256")
    try:
        signed, _, signature = token.encode("ascii").rpartition(b".")
        # Compared as text: base64 leaves bits over, and two spellings of one signature must not both pass.
        good = hmac.compare_digest(signature, _encode(hmac.digest(secret, signed, "sha256")))
        payload = from_base64url(signed.partition(b".")[2]) if good else b""
    except ValueError as error:
        raise TokenError("not a JWT") from error
    if not good:
        raise TokenError("the token's signature does not match the key")
    return read_claims(payload)


def read_claims(payload: bytes) -> Claims:
    """Decode the claims of a token whose signature was verified. Raises TokenError naming the claim."""
    try:
        return _decode_claims(payload)
    except msgspec.DecodeError as error:
        raise TokenError(f"bad claims: {error}") from error


def check_claims(claims: Claims, now_s: float, leeway_s: float, issuer: str, audience: str) -> Identity:
    """What the claims say, if they hold now (RFC 7519, 4.1).

    `issuer` and `audience` "" are not checked. Raises TokenError naming the claim.
    """
    if claims.exp > MAX_TIME_S or (claims.nbf is not None and claims.nbf > MAX_TIME_S):
        name = "exp" if claims.exp > MAX_TIME_S else "nbf"
        raise TokenError(f"{name} lies beyond the year 9999: it counts seconds, not milliseconds")
    # `not (a < b)` and not `a >= b`: a claim that is NaN must not pass.
    if not now_s < claims.exp + leeway_s:
        raise TokenError("the token has expired")
    if claims.nbf is not None and not claims.nbf - leeway_s <= now_s:
        raise TokenError("the token is not yet valid")
    if issuer and claims.iss != issuer:
        raise TokenError("the token's issuer (iss) is not the one configured")
    if audience and audience not in ([claims.aud] if isinstance(claims.aud, str) else claims.aud or []):
        raise TokenError("the token's audience (aud) does not name this service")
    # With nothing wrong about all of them in one there is nothing about any.
    if name_problem(claims.sub + claims.account + claims.device_class):
        for name, value in (("sub", claims.sub), ("account", claims.account), ("class", claims.device_class)):
            if problem := name_problem(value):
                raise TokenError(f"{name} {problem}")
    if not claims.sub or not claims.account:
        raise TokenError("sub and account must not be empty")
    return Identity(claims.account, claims.sub, scopes_of(claims.scope), claims.exp, claims.device_class)


def scopes_of(scope: str) -> frozenset[str]:
    """The scopes of a list; equal lists share one object, which thousands of connections hold.

    Only U+0020 separates (RFC 6749, 3.3): what other spaces surround is one scope that nothing asks for.
    """
    found = _scopes.get(scope)
    if found is None:
        found = frozenset(filter(None, scope.split(" ")))
        if len(_scopes) < _MAX_SCOPES:
            _scopes[scope] = found
    return found


def _encode(raw: bytes) -> bytes:
    return binascii.b2a_base64(raw, newline=False).translate(_TO_URL).rstrip(b"=")


def from_base64url(text: bytes) -> bytes:
    """base64url without padding (RFC 7515, 2). Raises ValueError for anything else, padding included."""
    if b"=" in text or b"+" in text or b"/" in text:
        raise binascii.Error("not base64url")
    return binascii.a2b_base64(text.translate(_FROM_URL) + b"=" * (-len(text) % 4), strict_mode=True)
