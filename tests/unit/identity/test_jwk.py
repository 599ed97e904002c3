"""Which keys of a set tokens may be checked with."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import KeySetError
from gateway.identity.jwk import MAX_KEYS, MAX_SET_BYTES, read_key_set
from tests.support.issuer import ALGORITHMS, Key, key_set

KEYS = {algorithm: Key(algorithm.lower(), algorithm) for algorithm in ALGORITHMS}


def left_out(jwk: Any) -> dict[str, int]:
    """Why this key is left out; the good one beside it must stay."""
    found = read_key_set(key_set(jwk, KEYS["EdDSA"].jwk(kid="good")))
    assert [key.kid for key in found.keys][-1:] == ["good"]
    assert len(found.keys) + sum(found.left_out.values()) == 2
    return dict(found.left_out)


def number(value: int) -> str:
    return urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8)).rstrip(b"=").decode()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    "changes",
    [{}, {"alg": None}, {"use": None}, {"use": None, "key_ops": ["verify"]}, {"x5c": ["…"], "x5t": "a"}, {"ext": True}],
)
def test_a_key_that_can_be_used(algorithm: str, changes: dict[str, Any]) -> None:
    (key,) = read_key_set(key_set(KEYS[algorithm].jwk(**changes))).keys
    assert (key.kid, key.algorithm) == (algorithm.lower(), algorithm)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"alg": "HS256"}, "algorithm"),
        ({"alg": "none"}, "algorithm"),
        ({"alg": "PS256"}, "algorithm"),
        ({"alg": ""}, "algorithm"),
        ({"use": "enc"}, "use"),
        ({"use": ""}, "use"),
        ({"key_ops": ["sign"]}, "use"),
        ({"key_ops": []}, "use"),
        ({"d": "AAAA"}, "private"),
        ({"kty": "oct", "k": "AAAA"}, "symmetric"),
        ({"kty": "xyz"}, "kind"),
        ({"kty": "AKP", "alg": "ML-DSA-65", "pub": "AAAA"}, "kind"),
        ({"alg": "RSA-OAEP"}, "algorithm"),
        ({"kty": None}, "malformed"),
        ({"kid": 7}, "malformed"),
        ({"kid": "x" * 300}, "malformed"),
        ({"key_ops": "verify"}, "malformed"),
    ],
)
def test_a_key_that_is_left_out(algorithm: str, changes: dict[str, Any], why: str) -> None:
    assert left_out(KEYS[algorithm].jwk(**changes)) == {why: 1}


@pytest.mark.parametrize(
    "jwk",
    [
        None,
        5,
        "key",
        [],
        {},
        KEYS["ES256"].jwk(x="AAAA"),
        KEYS["ES256"].jwk(y="é"),
        KEYS["ES256"].jwk(x=None),
        KEYS["EdDSA"].jwk(x="A" * 44),
        KEYS["EdDSA"].jwk(x=KEYS["EdDSA"].jwk()["x"] + "="),
        KEYS["RS256"].jwk(n=number(2**1023 + 1)),
        KEYS["RS256"].jwk(n=number(2**9000 + 1)),
        KEYS["RS256"].jwk(e=number(1)),
        KEYS["RS256"].jwk(e=number(65_536)),
        KEYS["RS256"].jwk(e=number(2**2040 + 1)),
        KEYS["RS256"].jwk(e=None),
    ],
)
def test_numbers_that_are_no_key(jwk: Any) -> None:
    assert left_out(jwk) == {"malformed": 1}


@pytest.mark.parametrize("curve", ["P-384", "P-521", "secp256k1", "Ed25519", ""])
def test_other_curves(curve: str) -> None:
    assert left_out(KEYS["ES256"].jwk(crv=curve)) == {"kind": 1}


def test_the_first_of_two_with_one_name_counts() -> None:
    first, second = Key("a"), Key("a")
    found = read_key_set(key_set(first.jwk(), second.jwk()))
    assert found.keys == read_key_set(key_set(first.jwk())).keys
    assert found.left_out == {"duplicate": 1}
    # RFC 7517, 4.5: keys of different kinds may share a name.
    assert len(read_key_set(key_set(first.jwk(), Key("a", "EdDSA").jwk())).keys) == 2


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"keys":{}}', b'{"keys":null}', b"<html>", b'{"keys":[\xff]}', b"[" * 9000, b'{"keys":[1}'],
)
def test_what_is_no_set(body: bytes) -> None:
    with pytest.raises(KeySetError, match="not a JSON Web Key Set"):
        read_key_set(body)


def test_sets_are_bounded() -> None:
    one = KEYS["EdDSA"].jwk()
    assert len(read_key_set(key_set(*({**one, "kid": f"{number}"} for number in range(MAX_KEYS)))).keys) == MAX_KEYS
    with pytest.raises(KeySetError, match="10000 keys"):
        read_key_set(key_set(*[{}] * 10_000))
    with pytest.raises(KeySetError, match=f"{MAX_SET_BYTES} bytes"):
        read_key_set(key_set() + b" " * MAX_SET_BYTES)


def test_an_empty_set_is_one() -> None:
    assert read_key_set(b'{"keys":[]}').keys == ()


def test_the_sizes_of_rsa_keys() -> None:
    for bits in (2048, 3072, 4096):
        key = Key("r", "RS256", rsa.generate_private_key(65_537, bits))
        assert len(read_key_set(key_set(key.jwk())).keys) == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(list(KEYS["ES256"].jwk())), inner),
    max_leaves=12,
)


@given(st.lists(json_values, max_size=5))
def test_whatever_stands_in_it_the_good_key_stays(members: list[Any]) -> None:
    found = read_key_set(json.dumps({"keys": [*members, KEYS["EdDSA"].jwk()]}).encode())
    assert any(key.kid == "eddsa" for key in found.keys)
