"""Addresses to listen on."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import SettingsError
from gateway.settings.model import Listen
from gateway.wire.listener import Address, parse_addresses, tls_context


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8080", [Address("127.0.0.1", 8080)]),
        ("localhost:0", [Address("localhost", 0)]),
        (":8080", [Address("0.0.0.0", 8080)]),
        ("[::1]:8080", [Address("::1", 8080)]),
        ("127.0.0.1:80, [::]:81,", [Address("127.0.0.1", 80), Address("::", 81)]),
    ],
)
def test_addresses(text: str, expected: list[Address]) -> None:
    assert parse_addresses("listen.public", text) == expected


@pytest.mark.parametrize("text", ["", ",", "8080", "host", "host:", "host:x", "host:-1", "host:65536", "host:8 0"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_addresses("listen.public", text)
    assert caught.value.key == "listen.public"


def test_an_address_reads_as_it_is_written() -> None:
    for text in ("127.0.0.1:8080", "[::1]:8080"):
        assert str(parse_addresses("k", text)[0]) == text


def test_tls_settings(tmp_path: Path) -> None:
    assert tls_context(Listen()) is None
    nothing = tmp_path / "nothing.pem"
    for settings in (Listen(tls_key_file="key.pem"), Listen(tls_certificate_file=str(nothing))):
        with pytest.raises(SettingsError) as caught:
            tls_context(settings)
        assert caught.value.key == "listen.tls_certificate_file"
    nothing.write_text("not a certificate")
    with pytest.raises(SettingsError):
        tls_context(Listen(tls_certificate_file=str(nothing)))
