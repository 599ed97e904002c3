"""The columns of all connections."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from gateway.connections.table import Table, parse_address


def test_slots_are_used_again_clean() -> None:
    table = Table()
    assert [table.take() for _ in range(3)] == [0, 1, 2]
    for name in Table._DOUBLES + Table._SIGNED + Table._UNSIGNED:
        getattr(table, name)[1] = 7
    table.give_back(1)
    assert table.take() == 1
    assert all(getattr(table, name)[1] == 0 for name in Table._DOUBLES + Table._SIGNED + Table._UNSIGNED)
    assert table.take() == 3


def test_every_column_is_as_long() -> None:
    table = Table()
    for _ in range(5):
        table.take()
    columns = set(Table.__slots__) - {"_free", "_columns", "slots"}
    assert columns == set(Table._DOUBLES + Table._SIGNED + Table._UNSIGNED)
    (length,) = {len(getattr(table, name)) for name in columns}
    assert length >= table.slots == 5


def test_slots_beyond_the_first_growth_are_clean_and_apart() -> None:
    table = Table()
    slots = [table.take() for _ in range(1000)]
    assert slots == list(range(1000))
    assert not any(table.id_low[slot] for slot in slots)
    table.id_low[999] = 1


@pytest.mark.parametrize(
    "address", ["0.0.0.0", "203.0.113.5", "255.255.255.255", "::", "::1", "2001:db8::5", "fe80::1"]
)
def test_addresses(address: str) -> None:
    table = Table()
    slot = table.take()
    table.set_address(slot, ip_address(address))
    assert table.address(slot) == address


@pytest.mark.parametrize(
    ("text", "expected"),
    [("203.0.113.5", "203.0.113.5"), ("fe80::1%eth0", "fe80::1"), ("", "0.0.0.0"), ("@", "0.0.0.0")],
)
def test_addresses_of_the_socket_layer(text: str, expected: str) -> None:
    assert str(parse_address(text)) == expected
