"""Tokens signed with a private key; the algorithm follows from the kind of key and nothing else."""

from __future__ import annotations

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from gateway.errors import SettingsError, TokenError
from gateway.identity.public_key import public_key_verifier
from tests.support.jwts import CLAIMS, encode, token

KEYS: dict[str, Any] = {
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "RS256": rsa.generate_private_key(65_537, 2048),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


def _pem(key: Any) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[no-any-return]


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_good_token(algorithm: str) -> None:
    verify = public_key_verifier(_pem(KEYS[algorithm]))
    claims = verify(jwt.encode(CLAIMS, KEYS[algorithm], algorithm))
    assert (claims.sub, claims.account) == ("dev-1", "acme")


@pytest.mark.parametrize("algorithm", KEYS)
def test_the_pem_is_no_secret(algorithm: str) -> None:
    pem = _pem(KEYS[algorithm])
    verify = public_key_verifier(pem)
    for secret in (pem, pem.strip()):
        with pytest.raises(TokenError, match=algorithm):
            verify(token(secret=secret))
        with pytest.raises(TokenError):
            verify(token(header={"alg": algorithm}, secret=secret))


@pytest.mark.parametrize("algorithm", KEYS)
def test_other_algorithms_and_none(algorithm: str) -> None:
    verify = public_key_verifier(_pem(KEYS[algorithm]))
    for other, key in KEYS.items():
        if other != algorithm:
            with pytest.raises(TokenError, match=algorithm):
                verify(jwt.encode(CLAIMS, key, other))
    header = encode(json.dumps({"alg": "none"}).encode())
    with pytest.raises(TokenError):
        verify(f"{header}.{encode(json.dumps(CLAIMS).encode())}.")


@pytest.mark.parametrize("algorithm", KEYS)
def test_another_key_of_the_same_kind(algorithm: str) -> None:
    others: dict[str, Any] = {
        "ES256": ec.generate_private_key(ec.SECP256R1()),
        "RS256": rsa.generate_private_key(65_537, 2048),
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    }
    verify = public_key_verifier(_pem(KEYS[algorithm]))
    with pytest.raises(TokenError, match="signature"):
        verify(jwt.encode(CLAIMS, others[algorithm], algorithm))


@pytest.mark.parametrize("algorithm", ["RS384", "PS256"])
def test_another_algorithm_of_the_same_key(algorithm: str) -> None:
    verify = public_key_verifier(_pem(KEYS["RS256"]))
    with pytest.raises(TokenError, match="RS256"):
        verify(jwt.encode(CLAIMS, KEYS["RS256"], algorithm))


@pytest.mark.parametrize("algorithm", KEYS)
def test_tampering(algorithm: str) -> None:
    good = jwt.encode(CLAIMS, KEYS[algorithm], algorithm)
    verify = public_key_verifier(_pem(KEYS[algorithm]))
    payload = good.index(".") + 1
    for position in range(payload, good.rindex("."), 7):
        other = "A" if good[position] != "A" else "B"
        with pytest.raises(TokenError):
            verify(good[:position] + other + good[position + 1 :])
    for text in ("", "a.b.c", good + ".x", good.rpartition(".")[0] + ".", good + "x" * 9000):
        with pytest.raises(TokenError):
            verify(text)


@pytest.mark.parametrize("depth", [200, 900, 1500])
def test_a_deeply_nested_header(depth: int) -> None:
    header = b'{"alg":"ES256","x":' + b"[" * depth + b"]" * depth + b"}"
    with pytest.raises(TokenError):
        public_key_verifier(_pem(KEYS["ES256"]))(f"{encode(header)}.e30.AAAA")


def test_both_halves_of_the_curve_are_signatures() -> None:
    """ECDSA gives s above and below half the order alike (RFC 7518, 3.4 asks for neither): issuers send both."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    verify, high = public_key_verifier(_pem(KEYS["ES256"])), 0
    for _ in range(40):
        text = jwt.encode(CLAIMS, KEYS["ES256"], "ES256")
        high += int.from_bytes(jwt.utils.base64url_decode(text.rpartition(".")[2])[32:]) > order // 2
        assert verify(text).sub == "dev-1"
    assert 0 < high < 40


def test_an_unencoded_payload() -> None:
    text = jwt.encode(CLAIMS, KEYS["ES256"], "ES256", headers={"crit": ["b64"], "b64": False})
    with pytest.raises(TokenError):
        public_key_verifier(_pem(KEYS["ES256"]))(text)


def test_signed_claims_that_are_wrong() -> None:
    verify = public_key_verifier(_pem(KEYS["ES256"]))
    for payload in (b"[]", b"\xff", b"{}"):
        text = jwt.PyJWS().encode(payload, KEYS["ES256"], "ES256")
        with pytest.raises(TokenError, match="bad claims"):
            verify(text)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: _pem(rsa.generate_private_key(65_537, 1024)), "1024 bits"),
        (lambda: _pem(ec.generate_private_key(ec.SECP384R1())), "P-256"),
        (lambda: _pem(ec.generate_private_key(ec.SECP256K1())), "P-256"),
        (lambda: _pem(ed448.Ed448PrivateKey.generate()), "Ed25519"),
        (lambda: _pem(dsa.generate_private_key(2048)), "the key must be"),
        (lambda: b"not a key", "PEM"),
        (lambda: b"", "PEM"),
        (
            lambda: KEYS["ES256"].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            "private key",
        ),
        (lambda: _pem(KEYS["ES256"]) * 2, "2 keys"),
        (lambda: _pem(KEYS["ES256"]) + _pem(KEYS["RS256"]), "2 keys"),
        (lambda: b"# comment\n" + _pem(KEYS["EdDSA"]) + b"\n" + _pem(KEYS["EdDSA"]).strip(), "2 keys"),
    ],
)
def test_keys_that_are_not_taken(make: Any, told: str) -> None:
    with pytest.raises(SettingsError, match=told) as caught:
        public_key_verifier(make())
    assert caught.value.key == "auth.public_key_file"
