"""Tokens signed with a private key that only the issuer has. Loaded only when `auth.public_key_file` or
`auth.jwks_url` is set."""

from __future__ import annotations

from collections.abc import Callable

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePublicKey,
    EllipticCurvePublicNumbers,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from gateway.errors import SettingsError, TokenError
from gateway.identity.jwk import PublicJwk
from gateway.identity.key_files import one_public_key
from gateway.identity.token import MAX_TOKEN_BYTES, Claims, Verify, header_algorithm, read_claims

_KEY = "auth.public_key_file"
_MIN_RSA_BITS = 2048
PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey


def public_key_verifier(pem: bytes) -> Verify:
    """A function that checks signatures with this key; the algorithm follows from the kind of key (RFC 8725, 3.1)."""
    return _verifier(*_load(pem))


def rsa_bits(pem: bytes) -> int:
    """The size of an RSA key; 0: it is of another kind."""
    key, _ = _load(pem)
    return key.key_size if isinstance(key, RSAPublicKey) else 0


def jwk_verifier(jwk: PublicJwk) -> Verify:
    """The same with a key of a set. Raises SettingsError when its numbers make no key."""
    try:
        return _verifier(_MAKERS[jwk.algorithm](*jwk.parts), jwk.algorithm)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SettingsError("auth.jwks_url", "a key of the set is not valid") from error


def _rsa(n: bytes, e: bytes) -> PublicKey:
    return RSAPublicNumbers(int.from_bytes(e), int.from_bytes(n)).public_key()


def _ec(x: bytes, y: bytes) -> PublicKey:
    return EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), SECP256R1()).public_key()


_MAKERS: dict[str, Callable[..., PublicKey]] = {
    "RS256": _rsa,
    "ES256": _ec,
    "EdDSA": Ed25519PublicKey.from_public_bytes,
}


def _verifier(key: PublicKey, algorithm: str) -> Verify:
    signatures = jwt.PyJWS(algorithms=[algorithm])

    def verify(token: str) -> Claims:
        if len(token) > MAX_TOKEN_BYTES:
            raise TokenError(f"the token is longer than {MAX_TOKEN_BYTES} bytes")
        if header_algorithm(token) != algorithm:
            raise TokenError(f"the token is not signed with {algorithm}")
        try:
            payload = signatures.decode(token, key, algorithms=[algorithm])
        except jwt.InvalidSignatureError as error:
            raise TokenError("the token's signature does not match the key") from error
        except (jwt.PyJWTError, RecursionError) as error:
            raise TokenError("not a JWT") from error
        return read_claims(payload)

    return verify


def _load(pem: bytes) -> tuple[PublicKey, str]:
    try:
        key = load_pem_public_key(one_public_key(_KEY, pem))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SettingsError(_KEY, "not a PEM public key (it begins with -----BEGIN PUBLIC KEY-----)") from error
    if isinstance(key, RSAPublicKey):
        if key.key_size < _MIN_RSA_BITS:
            raise SettingsError(_KEY, f"an RSA key of {key.key_size} bits; at least {_MIN_RSA_BITS} are needed")
        return key, "RS256"
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return key, "ES256"
    if isinstance(key, Ed25519PublicKey):
        return key, "EdDSA"
    raise SettingsError(_KEY, "the key must be EC P-256 (ES256), RSA (RS256) or Ed25519 (EdDSA)")
