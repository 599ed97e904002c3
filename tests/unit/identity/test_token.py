"""HS256 tokens: what passes, and every way in which one does not."""

from __future__ import annotations

import contextlib
import hmac
import json
from typing import Any

import pytest

from gateway.errors import TokenError
from gateway.identity import token as tokens
from gateway.identity.identity import Identity
from gateway.identity.token import (
    MAX_TIME_S,
    MAX_TOKEN_BYTES,
    Claims,
    check_claims,
    header_algorithm,
    mint,
    read_claims,
    scopes_of,
    verify_hs256,
)
from tests.support.jwts import CLAIMS, NOW_S, SECRET, encode, token


def _identity(issuer: str = "", audience: str = "", leeway_s: float = 30, **changes: object) -> Identity:
    claims = read_claims(json.dumps(CLAIMS | changes).encode())
    return check_claims(claims, NOW_S, leeway_s, issuer, audience)


def _refused(**changes: object) -> str:
    with pytest.raises(TokenError) as caught:
        _identity(**changes)  # type: ignore[arg-type]
    return str(caught.value)


def _unverified(text: str) -> str:
    with pytest.raises(TokenError) as caught:
        verify_hs256(text, SECRET)
    assert len(text) < 10 or text not in str(caught.value)
    return str(caught.value)


# The signature


def test_what_we_mint_we_verify() -> None:
    claims = verify_hs256(mint(CLAIMS, SECRET), SECRET)
    assert (claims.sub, claims.account, claims.exp) == ("dev-1", "acme", NOW_S + 3600)


def test_what_others_mint_we_verify() -> None:
    assert verify_hs256(token(), SECRET) == verify_hs256(mint(CLAIMS, SECRET), SECRET)


def test_another_secret() -> None:
    assert "signature" in _unverified(token(secret=SECRET[::-1]))


@pytest.mark.parametrize("name", ["none", "None", "NONE", "", "HS384", "HS512", "RS256", "ES256", "hs256", "HS256 "])
def test_another_algorithm_though_signed_with_ours(name: str) -> None:
    assert "HS256" in _unverified(token(header={"alg": name}))


def test_none_with_an_empty_signature() -> None:
    text = token(header={"alg": "none"}).rpartition(".")[0] + "."
    assert "HS256" in _unverified(text)


def test_an_empty_signature() -> None:
    assert "signature" in _unverified(token().rpartition(".")[0] + ".")


@pytest.mark.parametrize(
    "header",
    [b"", b"{}", b"[]", b"null", b'"HS256"', b"\xff", {"alg": None}, {"alg": 5}, {"alg": ["HS256"]}, b'{"alg":"HS256"'],
)
def test_a_malformed_header(header: Any) -> None:
    assert _unverified(token(header=header)) == "not a JWT"


@pytest.mark.parametrize("listed", [["b64"], ["exp"], []])
def test_critical_headers(listed: list[str]) -> None:
    assert "critical" in _unverified(token(header={"alg": "HS256", "crit": listed, "b64": False}))


@pytest.mark.parametrize("listed", [None, "b64", [5], {}])
def test_critical_headers_that_are_no_list_of_names(listed: Any) -> None:
    assert _unverified(token(header={"alg": "HS256", "crit": listed})) == "not a JWT"


@pytest.mark.parametrize("depth", [900, 1500, 2900])
@pytest.mark.parametrize("brackets", [(b"[", b"]"), (b'{"x":', b"}")])
def test_a_deeply_nested_header(depth: int, brackets: tuple[bytes, bytes]) -> None:
    inner = brackets[0] * depth + b"1" + brackets[1] * depth
    text = token(header=b'{"alg":"HS256","x":' + inner + b"}")
    with pytest.raises(TokenError) as caught:
        verify_hs256(text + "x", SECRET)
    assert str(caught.value) in {"not a JWT", "the token's signature does not match the key"} or "longer" in str(caught)


@pytest.mark.parametrize("depth", [900, 1500])
def test_deeply_nested_claims(depth: int) -> None:
    nested = b"[" * depth + b"]" * depth
    for payload in (b'{"sub":"d","exp":1,"x":' + nested + b"}", b'{"sub":' + nested + b"}", nested):
        with contextlib.suppress(TokenError):
            verify_hs256(token(payload), SECRET)


@pytest.mark.parametrize("text", ["", ".", "..", "...", "a", "a.b", "a.b.c", "🦋.b.c", "=.=.="])
def test_what_is_not_a_token(text: str) -> None:
    assert _unverified(text) == "not a JWT"


def test_a_long_token() -> None:
    assert "longer" in _unverified(token(CLAIMS | {"x": "y" * MAX_TOKEN_BYTES}))


def test_every_character_counts() -> None:
    text = token()
    for position, letter in enumerate(text):
        for other in ("A", "B", "_", ".", "=", " "):
            if other != letter:
                _unverified(text[:position] + other + text[position + 1 :])
        _unverified(text[:position] + text[position + 1 :])
        _unverified(text[:position] + "!" + text[position:])


@pytest.mark.parametrize("change", [lambda t: t + "=", lambda t: t + "\n", lambda t: " " + t, lambda t: t + ".x"])
def test_nothing_may_stand_around_it(change: Any) -> None:
    _unverified(change(token()))


def test_the_same_signature_in_another_spelling() -> None:
    text = token()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    # The last of 43 characters carries two bits that mean nothing.
    for other in alphabet:
        if other != text[-1]:
            _unverified(text[:-1] + other)


def test_the_letters_of_plain_base64() -> None:
    payload = CLAIMS | {"x": "~~~???>>>" * 3}
    text = token(payload)
    assert "-" in text
    _unverified(text.replace("-", "+").replace("_", "/"))


@pytest.mark.parametrize("junk", ["!", " ", "=", "+", ".x"])
def test_signed_but_not_base64url(junk: str) -> None:
    header, payload, _ = token().split(".")
    for signed in (f"{header}{junk}.{payload}", f"{header}.{payload}{junk}"):
        signature = encode(hmac.digest(SECRET, signed.encode(), "sha256"))
        assert _unverified(f"{signed}.{signature}") == "not a JWT"


def test_padding_within() -> None:
    header, payload, signature = token(CLAIMS | {"pad": "xx"}).split(".")
    _unverified(f"{header}=.{payload}.{signature}")
    _unverified(f"{header}.{payload}=.{signature}")


def test_signed_nonsense() -> None:
    for payload in (b"", b"[]", b"\xff", b'{"sub":"\xff","exp":1}', b'{"sub":"\\ud800","exp":1}', b"{" * 5000):
        assert "bad claims" in _unverified(token(payload))


# The claims


def test_an_identity() -> None:
    changes: dict[str, Any] = {"class": "esp-idf"}
    assert _identity(**changes) == Identity("acme", "dev-1", frozenset({"location:write"}), NOW_S + 3600, "esp-idf")


def test_defaults() -> None:
    identity = check_claims(Claims("dev-1", NOW_S + 1), NOW_S, 0, "", "")
    assert identity == Identity("default", "dev-1", frozenset(), NOW_S + 1, "")


@pytest.mark.parametrize("name", ["sub", "exp"])
def test_a_missing_claim(name: str) -> None:
    claims = {key: value for key, value in CLAIMS.items() if key != name}
    with pytest.raises(TokenError, match=name):
        read_claims(json.dumps(claims).encode())


def test_expiry_with_leeway() -> None:
    assert _identity(exp=NOW_S - 29)
    assert "expired" in _refused(exp=NOW_S - 30)
    assert "expired" in _refused(exp=NOW_S, leeway_s=0)
    assert "expired" in _refused(exp=-1e300)


@pytest.mark.parametrize("moment", [NOW_S * 1000, MAX_TIME_S + 1, 2**63, 1e300, 10**40])
def test_milliseconds_are_named(moment: float) -> None:
    assert _refused(exp=moment) == "exp lies beyond the year 9999: it counts seconds, not milliseconds"
    assert _refused(nbf=moment) == "nbf lies beyond the year 9999: it counts seconds, not milliseconds"


def test_the_last_expiry() -> None:
    assert _identity(exp=MAX_TIME_S).expires_s == MAX_TIME_S
    assert int(MAX_TIME_S * 1000) < 2**63, "fits the column"


def test_numbers_that_are_none() -> None:
    nan, infinity = float("nan"), float("inf")
    for exp, nbf in ((nan, None), (-infinity, None), (NOW_S + 1, nan), (NOW_S + 1, infinity)):
        with pytest.raises(TokenError):
            check_claims(Claims("d", exp, nbf=nbf), NOW_S, 30, "", "")
    for text in ("NaN", "Infinity", "1e999", '"1"', "true", "null", "[]"):
        with pytest.raises(TokenError):
            read_claims(f'{{"sub":"d","exp":{text}}}'.encode())


def test_not_before_with_leeway() -> None:
    assert _identity(nbf=NOW_S + 30)
    assert "not yet" in _refused(nbf=NOW_S + 31)


def test_issuer() -> None:
    assert _identity(iss="us", issuer="us")
    assert _identity(iss="anybody")
    for changes in ({"iss": "them"}, {"iss": ""}, {}):
        assert "iss" in _refused(issuer="us", **changes)


def test_audience() -> None:
    assert _identity(aud="gateway", audience="gateway")
    assert _identity(aud=["other", "gateway"], audience="gateway")
    changes: dict[str, Any]
    for changes in ({"aud": "gatewa"}, {"aud": "gateway2"}, {"aud": []}, {"aud": ["x"]}, {}):
        assert "aud" in _refused(audience="gateway", **changes)


def test_names() -> None:
    assert _identity(sub="é" * 64).device == "é" * 64
    for name in ("sub", "account", "class"):
        assert name in _refused(**{name: "é" * 65})
    for name in ("sub", "account"):
        assert name in _refused(**{name: ""})


@pytest.mark.parametrize("name", ["sub", "account", "class"])
@pytest.mark.parametrize("letter", [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))])
def test_names_without_control_characters(name: str, letter: str) -> None:
    for value in (f"lamp{letter}", f"{letter}lamp", f"la{letter}mp", letter):
        assert _refused(**{name: value}) == f"{name} holds a control character"


@pytest.mark.parametrize("letter", [" ", "~", "\u00a0", "é", "\u2028", "\ufeff", "🦋"])
def test_names_with_what_is_no_control_character(letter: str) -> None:
    assert _identity(sub=f"la{letter}mp").device == f"la{letter}mp"


@pytest.mark.parametrize("space", ["\t", "\n", "\u00a0", "\u2003", "\u3000", "\x1f"])
def test_only_a_space_separates_scopes(space: str) -> None:
    assert not _identity(scope=f"admin{space}x").may("admin")
    assert scopes_of(f"admin{space}x") == {f"admin{space}x"}


def test_scopes_are_shared_and_split_at_spaces() -> None:
    assert scopes_of("a b  c") == frozenset("abc")
    assert scopes_of("a b") is scopes_of("a b")
    assert scopes_of("") == frozenset()


def test_the_memory_of_scopes_is_bounded() -> None:
    for number in range(tokens._MAX_SCOPES + 100):
        scopes_of(f"scope-{number}")
    assert len(tokens._scopes) <= tokens._MAX_SCOPES
    assert scopes_of("scope-never-seen") == {"scope-never-seen"}


def test_a_long_header_is_read_and_not_kept() -> None:
    tokens._usual_header.cache_clear()
    for number in range(200):
        forged = token(header={"alg": "HS256", "kid": f"{number}-" + "x" * 300})
        assert header_algorithm(forged) == "HS256"
    assert tokens._usual_header.cache_info().currsize == 0


def test_the_header_that_an_issuer_writes_is_read_once() -> None:
    tokens._usual_header.cache_clear()
    for number in range(3):
        assert header_algorithm(token(CLAIMS | {"sub": f"dev-{number}"})) == "HS256"
    assert tokens._usual_header.cache_info()[:2] == (2, 1)


def test_admin_may_everything() -> None:
    assert _identity(scope="admin").may("location:write")
    assert _identity(scope="location:write").may("location:write")
    assert not _identity(scope="location:write").may("location:read")


def test_duplicate_claims_are_read_as_the_last() -> None:
    assert read_claims(b'{"sub":"a","sub":"b","exp":1}').sub == "b"


def test_encode_is_what_the_helper_says() -> None:
    assert encode(b"\xff\xfe") == "__4"
