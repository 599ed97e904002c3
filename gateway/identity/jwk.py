"""A JSON Web Key Set (RFC 7517): which of its keys tokens may be checked with. Pure.

The algorithm follows from the kind of key, never from the token (RFC 8725, 3.1). What is left out is counted by the
reason; one key that cannot be used never spoils the others.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import msgspec

from gateway.decoding import decoder
from gateway.errors import KeySetError
from gateway.identity.token import from_base64url

MAX_SET_BYTES = 262_144
MAX_KEYS = 100
_MAX_KID_CHARS = 256
_RSA_BITS = range(2048, 8193)
# With a larger exponent one check takes as long as a signature.
_RSA_EXPONENTS = range(3, 1 << 32, 2)
_COORDINATE_BYTES = 32


class PublicJwk(NamedTuple):
    """A key to check signatures with. `kid` "": it has no name. `parts` are big-endian numbers: n and e of RSA, x and y
    of EC, the public bytes of Ed25519."""

    kid: str
    algorithm: str
    parts: tuple[bytes, ...]


class KeySet(NamedTuple):
    """What a set holds that can be used, and how many of its keys cannot, by the reason."""

    keys: tuple[PublicJwk, ...]
    left_out: Counter[str]


class _Jwk(msgspec.Struct, frozen=True):
    kty: str
    kid: str = ""
    alg: str | None = None
    use: str | None = None
    key_ops: list[str] | None = None
    crv: str = ""
    n: str = ""
    e: str = ""
    x: str = ""
    y: str = ""
    d: str | None = None


class _Set(msgspec.Struct, frozen=True):
    keys: list[msgspec.Raw]


_read_set = decoder(_Set)
_read_key = decoder(_Jwk)


def read_key_set(body: bytes) -> KeySet:
    """The usable keys of a set. Raises KeySetError for what is not a set, and for one that is too large."""
    if len(body) > MAX_SET_BYTES:
        raise KeySetError(f"the key set is larger than {MAX_SET_BYTES} bytes")
    try:
        listed = _read_set(body).keys
    except msgspec.DecodeError as error:
        raise KeySetError("the answer is not a JSON Web Key Set (RFC 7517)") from error
    if len(listed) > MAX_KEYS:
        raise KeySetError(f"the key set holds {len(listed)} keys; at most {MAX_KEYS} are taken")
    keys: dict[tuple[str, str], PublicJwk] = {}
    left_out: Counter[str] = Counter()
    for raw in listed:
        found = _judge(raw)
        if isinstance(found, str):
            left_out[found] += 1
        elif (found.kid, found.algorithm) in keys:
            # Nobody can tell which of them a token means: the first counts, as for most readers of sets.
            left_out["duplicate"] += 1
        else:
            keys[found.kid, found.algorithm] = found
    return KeySet(tuple(keys.values()), left_out)


def _judge(raw: msgspec.Raw) -> PublicJwk | str:
    """The key, or why it is left out."""
    try:
        key = _read_key(raw)
        if reason := _unfit(key):
            return reason
        algorithm, parts = _KINDS[key.kty, key.crv if key.kty != "RSA" else ""](key)
    except KeyError:
        return "kind"
    except (ValueError, msgspec.DecodeError):
        return "malformed"
    if key.alg not in (None, algorithm):
        return "algorithm"
    return PublicJwk(key.kid, algorithm, parts)


def _unfit(key: _Jwk) -> str:
    """What its members say against it; "" for nothing."""
    if key.kty == "oct":
        return "symmetric"
    if key.d is not None:
        # Whoever reads the set can sign with it.
        return "private"
    if key.use not in (None, "sig") or (key.key_ops is not None and "verify" not in key.key_ops):
        return "use"
    return "malformed" if len(key.kid) > _MAX_KID_CHARS else ""


def _rsa(key: _Jwk) -> tuple[str, tuple[bytes, ...]]:
    n, e = from_base64url(key.n.encode("ascii")), from_base64url(key.e.encode("ascii"))
    if int.from_bytes(n).bit_length() not in _RSA_BITS or int.from_bytes(e) not in _RSA_EXPONENTS:
        raise ValueError("no RSA key that is safe and quick to check with")
    return "RS256", (n, e)


def _ec(key: _Jwk) -> tuple[str, tuple[bytes, ...]]:
    return "ES256", (_exactly(key.x), _exactly(key.y))


def _okp(key: _Jwk) -> tuple[str, tuple[bytes, ...]]:
    return "EdDSA", (_exactly(key.x),)


def _exactly(text: str) -> bytes:
    raw = from_base64url(text.encode("ascii"))
    if len(raw) != _COORDINATE_BYTES:
        raise ValueError("not a coordinate of 32 bytes")
    return raw


_KINDS = {("RSA", ""): _rsa, ("EC", "P-256"): _ec, ("OKP", "Ed25519"): _okp}
