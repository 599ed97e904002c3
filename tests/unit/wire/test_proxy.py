"""The peer's address behind a balancer; nothing a client writes itself is believed."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest

from gateway.errors import SettingsError
from gateway.wire.proxy import (
    ProxyHeaderError,
    forwarded_address,
    parse_networks,
    read_address,
    read_proxy_header,
    trusted,
)

NETWORKS = parse_networks("listen.trusted_proxies", "10.0.0.0/8, fd00::/8")
V2 = b"\r\n\r\n\x00\r\nQUIT\n"


def test_networks() -> None:
    assert trusted(ip_address("10.1.2.3"), NETWORKS)
    assert trusted(ip_address("fd00::1"), NETWORKS)
    assert not trusted(ip_address("11.0.0.1"), NETWORKS)
    assert not trusted(ip_address("::1"), NETWORKS)
    assert parse_networks("k", "") == ()
    assert parse_networks("k", "10.1.2.3/8") == parse_networks("k", "10.0.0.0/8")
    with pytest.raises(SettingsError, match=r"listen\.trusted_proxies"):
        parse_networks("listen.trusted_proxies", "10.0.0.0/33")


@pytest.mark.parametrize(
    ("peer", "header", "expected"),
    [
        ("10.0.0.1", "203.0.113.5", "203.0.113.5"),
        ("10.0.0.1", "1.1.1.1, 203.0.113.5", "203.0.113.5"),
        ("10.0.0.1", "203.0.113.5, 10.0.0.2", "203.0.113.5"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "203.0.113.5:4711", "203.0.113.5"),
        ("10.0.0.1", "2001:db8::5", "2001:db8::5"),
        ("10.0.0.1", "[2001:db8::5]:4711", "2001:db8::5"),
        ("10.0.0.1", "[2001:db8::5]", "2001:db8::5"),
        ("fd00::9", "203.0.113.5", "203.0.113.5"),
        ("192.0.2.1", "203.0.113.5", "192.0.2.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.5, unknown", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.5, , 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "[::12", "::12"),
        ("10.0.0.1", "1.2.3.4.5", "10.0.0.1"),
    ],
)
def test_forwarded_for(peer: str, header: str, expected: str) -> None:
    assert forwarded_address(ip_address(peer), header, NETWORKS) == ip_address(expected)


@pytest.mark.parametrize(
    ("header", "address"),
    [
        (b"PROXY TCP4 203.0.113.5 10.0.0.1 4000 443\r\n", "203.0.113.5"),
        (b"PROXY TCP6 2001:db8::5 fd00::1 4000 443\r\n", "2001:db8::5"),
        (b"PROXY TCP4 203.0.113.5 10.0.0.1 0 65535\r\n", "203.0.113.5"),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN a b c d\r\n", None),
    ],
)
def test_version_1(header: bytes, address: str | None) -> None:
    expected = ip_address(address) if address else None
    assert read_proxy_header(header + b"GET / HTTP/1.1") == (expected, len(header))
    assert all(read_proxy_header(header[:cut]) is None for cut in range(1, len(header)))


@pytest.mark.parametrize(
    "header",
    [
        b"GET / HTTP/1.1\r\n",
        b"proxy TCP4",
        b"PROXY TCP4 203.0.113.5 10.0.0.1 4000\r\n",
        b"PROXY TCP6 203.0.113.5 10.0.0.1 4000 443\r\n",
        b"PROXY TCP4 2001:db8::5 fd00::1 4000 443\r\n",
        b"PROXY TCP4 nobody 10.0.0.1 4000 443\r\n",
        b"PROXY TCP4 \xff 10.0.0.1 4000 443\r\n",
        b"PROXY TCP4 203.0.113.5 10.0.0.1 4000 443 1\r\n",
        b"PROXY TCP4 203.0.113.5 10.0.0.1 70000 443\r\n",
        b"PROXY TCP4 203.0.113.5 10.0.0.1 4000 65536\r\n",
        b"PROXY TCP4 203.0.113.5 10.0.0.1 +1 443\r\n",
        b"PROXY TCP4 203.0.113.5 10.0.0.1 01 443\r\n",
        b"PROXY TCP4 203.0.113.5 10.0.0.1  443\r\n",
        b"PROXY \r\n",
        b"PROXY TCP4 " + b"1" * 200,
    ],
)
def test_version_1_malformed(header: bytes) -> None:
    with pytest.raises(ProxyHeaderError):
        read_proxy_header(header)


def _v2(command: int, family: int, body: bytes, version: int = 2) -> bytes:
    return V2 + struct.pack("!BBH", version << 4 | command, family, len(body)) + body


V4_BODY = bytes((203, 0, 113, 5, 10, 0, 0, 1)) + struct.pack("!HH", 4000, 443)
V6_BODY = ip_address("2001:db8::5").packed + ip_address("fd00::1").packed + struct.pack("!HH", 4000, 443)


@pytest.mark.parametrize(
    ("header", "address"),
    [
        (_v2(1, 0x11, V4_BODY), "203.0.113.5"),
        (_v2(1, 0x11, V4_BODY + b"\x04\x00\x01x"), "203.0.113.5"),
        (_v2(1, 0x21, V6_BODY), "2001:db8::5"),
        (_v2(0, 0, b""), None),
        (_v2(0, 0x11, V4_BODY), None),
        (_v2(1, 0x31, b"x" * 216), None),
        (_v2(1, 0x00, b""), None),
    ],
)
def test_version_2(header: bytes, address: str | None) -> None:
    expected = ip_address(address) if address else None
    assert read_proxy_header(header + b"GET") == (expected, len(header))
    assert all(read_proxy_header(header[:cut]) is None for cut in range(1, len(header)))


@pytest.mark.parametrize(
    "header",
    [
        _v2(1, 0x11, V4_BODY, version=1),
        _v2(1, 0x11, V4_BODY[:4]),
        _v2(1, 0x11, b""),
        _v2(1, 0x21, V6_BODY[:35]),
        _v2(1, 0x21, V4_BODY),
        _v2(2, 0x11, V4_BODY),
        V2 + struct.pack("!BBH", 0x21, 0x11, 5000),
        V2[:-1] + b"X" + b"\x21\x11\x00\x0c" + V4_BODY,
    ],
)
def test_version_2_malformed(header: bytes) -> None:
    with pytest.raises(ProxyHeaderError):
        read_proxy_header(header)


# One address, several spellings


@pytest.mark.parametrize("text", ["10.0.0.0/8", "::ffff:10.0.0.0/104", "::ffff:a00:0/104"])
def test_a_network_of_mapped_addresses_is_the_ipv4_network(text: str) -> None:
    networks = parse_networks("listen.trusted_proxies", text)
    assert trusted(read_address("10.1.2.3"), networks)
    assert trusted(read_address("::ffff:10.1.2.3"), networks)
    assert not trusted(read_address("11.0.0.1"), networks)


def test_a_network_that_is_larger_than_the_mapped_ones_stays() -> None:
    networks = parse_networks("listen.trusted_proxies", "::/0")
    assert trusted(read_address("2001:db8::1"), networks)
    assert not trusted(read_address("10.1.2.3"), networks), "IPv4 has to be named"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("::FFFF:CB00:7107", "203.0.113.7"),
        ("fe80::1%eth0", "fe80::1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
    ],
)
def test_an_address_has_one_form(text: str, address: str) -> None:
    assert read_address(text) == ip_address(address)
    networks = parse_networks("listen.trusted_proxies", "192.0.2.1")
    assert forwarded_address(ip_address("192.0.2.1"), text, networks) == ip_address(address)
    assert forwarded_address(ip_address("192.0.2.1"), f"[{text}]:4000", networks) == ip_address(address)


def test_mapped_addresses_of_proxy_headers() -> None:
    header = b"PROXY TCP6 ::ffff:203.0.113.7 ::ffff:192.0.2.1 1 2\r\n"
    assert read_proxy_header(header) == (ip_address("203.0.113.7"), len(header))
    body = ip_address("::ffff:203.0.113.7").packed + ip_address("::ffff:192.0.2.1").packed + bytes(4)
    header = _v2(1, 0x21, body)
    assert read_proxy_header(header) == (ip_address("203.0.113.7"), len(header))
