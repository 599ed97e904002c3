"""Origins are compared in the form in which browsers send them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import SettingsError
from gateway.wire.origin import allowed_origins, normal, unusual

KEY = "listen.allowed_origins"


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://a.example", "https://a.example"),
        ("https://a.example/", "https://a.example"),
        ("HTTPS://A.Example", "https://a.example"),
        ("https://a.example:443", "https://a.example"),
        ("http://a.example:80/", "http://a.example"),
        ("http://a.example:443", "http://a.example:443"),
        ("https://a.example:8443", "https://a.example:8443"),
        ("https://a.example:08443", "https://a.example:8443"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[2001:DB8:0::1]:8080", "http://[2001:db8::1]:8080"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://日本.example", "https://xn--wgv71a.example"),
        ("null", "null"),
        ("file://", "file://"),
        ("ws://10.0.0.1:80", "ws://10.0.0.1"),
        ("http://localhost/", "http://localhost"),
        ("http://a.example/app", "http://a.example/app"),
        ("capacitor://localhost", "capacitor://localhost"),
    ],
)
def test_what_is_written_allows_what_is_sent(written: str, sent: str) -> None:
    allowed = allowed_origins(KEY, f" https://other.example , {written} ,")
    assert normal(sent) in allowed
    assert normal(written) == sent or sent == "null"


@pytest.mark.parametrize(
    "sent",
    [
        "http://a.example",
        "https://a.example:444",
        "https://b.a.example",
        "https://a.example.evil",
        "https://a.example@evil.example",
        "https://evil.example/https://a.example",
        "https://a.examplé",
        "https://a.example/x",
        "a.example",
        "null",
        "",
        "*",
        "https://",
    ],
)
def test_nothing_else_is_allowed(sent: str) -> None:
    assert normal(sent) not in allowed_origins(KEY, "https://a.example")


@pytest.mark.parametrize(
    "text",
    [
        "*",
        "https://*.example.com",
        "app.example.com",
        "localhost:3000",
        "//a.example",
        "https:/a.example",
        "https://a.example:99999",
        "https://a.example:0",
        "https://a.example:x",
        "https://user@a.example",
        "https://a b.example",
        "https://a.example https://b.example",
        "https://a.example;https://b.example",
        "https://[::1",
        "true",
        "Null",
    ],
)
def test_garbage_is_refused_at_start(text: str) -> None:
    with pytest.raises(SettingsError, match=KEY):
        allowed_origins(KEY, f"https://good.example,{text}")


def test_those_that_no_browser_sends_are_told() -> None:
    allowed = allowed_origins(
        KEY, "https://a.example,file://,null,ws://b.example,http://c.example/x,moz-extension://1-2"
    )
    assert unusual(allowed) == ["file://", "http://c.example/x", "null", "ws://b.example"]


def test_nothing_is_nothing() -> None:
    assert allowed_origins(KEY, "") == allowed_origins(KEY, " , ") == frozenset()


@given(st.text(max_size=60))
def test_the_normal_form_is_its_own(text: str) -> None:
    assert normal(normal(text)) == normal(text)


@given(st.from_regex(r"\Ahttps?://[a-zA-Z0-9.-]{1,30}(:[0-9]{1,5})?/?\Z"))
def test_case_and_default_ports_never_matter(origin: str) -> None:
    assert normal(origin) == normal(origin.upper()) == normal(origin.rstrip("/"))
