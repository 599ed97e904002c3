"""HS256 against PyJWT: what we accept it accepts, with the same claims; what it refuses we refuse."""

from __future__ import annotations

import json
import re
from typing import Any

import jwt
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.types import FullOptions, Options

from gateway.errors import TokenError
from gateway.identity.token import check_claims, mint, verify_hs256
from tests.support.jwts import NOW_S, SECRET, token

LEEWAY_S = 30
_CANONICAL = re.compile(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")

# The gateway refuses names with control characters, which PyJWT does not look at.
names = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)
around_now = st.one_of(st.integers(-100, 100), st.sampled_from([-(10**9), 10**9])).map(lambda offset: NOW_S + offset)
claim_sets = st.fixed_dictionaries(
    {"sub": names, "exp": around_now},
    optional={
        "account": names,
        "scope": st.sampled_from(["", "location:write", "location:write progress:read"]),
        "nbf": around_now,
        "iss": st.sampled_from(["us", "them"]),
        "aud": st.one_of(st.sampled_from(["gateway", "x"]), st.lists(st.sampled_from(["gateway", "x"]), max_size=2)),
        "unknown": st.one_of(st.none(), st.integers(), names),
    },
)


class FixedTime(jwt.PyJWT):
    """PyJWT with the clock of the test."""

    def _validate_claims(self, payload: dict[str, Any], options: FullOptions, *args: Any, **others: Any) -> None:
        exp, nbf = payload["exp"], payload.get("nbf", 0)
        if exp <= NOW_S - LEEWAY_S:
            raise jwt.ExpiredSignatureError
        if nbf > NOW_S + LEEWAY_S:
            raise jwt.ImmatureSignatureError
        super()._validate_claims(
            payload, {**options, "verify_exp": False, "verify_nbf": False, "verify_iat": False}, *args, **others
        )


def _oracle(text: str, issuer: str, audience: str) -> dict[str, Any] | None:
    options: Options = {"verify_aud": bool(audience), "verify_jti": False}
    try:
        return FixedTime().decode(
            text, SECRET, algorithms=["HS256"], issuer=issuer or None, audience=audience or None, options=options
        )
    except jwt.PyJWTError:
        return None


def _ours(text: str, issuer: str, audience: str) -> tuple[str, str, float] | None:
    try:
        identity = check_claims(verify_hs256(text, SECRET), NOW_S, LEEWAY_S, issuer, audience)
    except TokenError:
        return None
    return identity.device, identity.account, identity.expires_s


@given(claim_sets, st.sampled_from(["", "us"]), st.sampled_from(["", "gateway"]), st.booleans())
@settings(max_examples=300, deadline=None)
def test_claims(claims: dict[str, Any], issuer: str, audience: str, minted_here: bool) -> None:
    text = mint(claims, SECRET) if minted_here else jwt.encode(claims, SECRET, "HS256")
    expected = _oracle(text, issuer, audience)
    found = _ours(text, issuer, audience)
    assert (found is None) == (expected is None)
    if expected is not None:
        assert found == (expected["sub"], expected.get("account", "default"), expected["exp"])


@given(
    claim_sets,
    st.lists(st.tuples(st.integers(0, 400), st.sampled_from("ABab01_-.=+/ !")), min_size=1, max_size=3),
    st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_tampering(claims: dict[str, Any], changes: list[tuple[int, str]], replace: bool) -> None:
    good = token(claims)
    text = good
    for position, letter in changes:
        position = position % len(text)
        text = text[:position] + letter + text[position + replace :]
    if text != good:
        assert _ours(text, "", "") is None
    if _CANONICAL.fullmatch(text) and _ours(text, "", "") is not None:
        assert _oracle(text, "", "") is not None


@given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=40))
def test_anything_signed_or_not_is_a_token_or_a_token_error(header: bytes, payload: bytes, secret: bytes) -> None:
    for text in (token(payload, header), token(payload), token(json.loads("{}"), header, secret or b"x")):
        assert _ours(text, "", "") is None or _oracle(text, "", "") is not None


@given(st.text(max_size=200))
def test_any_text_is_refused(text: str) -> None:
    assert _ours(text, "", "") is None
