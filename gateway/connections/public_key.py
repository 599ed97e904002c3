"""Tokens signed with a private key that only the issuer has. Loaded only when `auth.public_key_file` is set."""

from __future__ import annotations

from collections.abc import Callable

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from gateway.connections.key_files import one_public_key
from gateway.connections.token import MAX_TOKEN_BYTES, Claims, header_algorithm, read_claims
from gateway.errors import SettingsError, TokenError

_KEY = "auth.public_key_file"
_MIN_RSA_BITS = 2048
PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey


def public_key_verifier(pem: bytes) -> Callable[[str], Claims]:
    """A function that checks signatures with this key; the algorithm follows from the kind of key (RFC 8725, 3.1)."""
    key, algorithm = _load(pem)
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
