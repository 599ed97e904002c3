"""One contract for whatever remembers the connections of devices."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_address
from pathlib import Path

import pytest

from gateway.adapters.clock import SystemClock
from gateway.adapters.opensearch.connection import Access
from gateway.adapters.opensearch.history import OpenSearchHistory
from gateway.adapters.sqlite.history import SQLiteHistory
from gateway.history.ports import HistoryStore
from gateway.history.record import MAX_KEPT, Began, Drained, Ended, Happening, PastConnection
from gateway.wire.close_codes import Fault
from gateway.wire.uuid7 import text_of
from tests.support.opensearch import delete, initialise, new_prefix

START_MS = 1_764_374_400_000
MAPPED = 0xFFFF << 32


class Refreshed(OpenSearchHistory):
    """Shows what was written at once."""

    async def write(self, happenings: Sequence[Happening]) -> None:
        await super().write(happenings)
        await self._connection.request("POST", f"/{self._index}/_refresh")


@pytest.fixture(params=["sqlite", "opensearch"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[HistoryStore]:
    store: HistoryStore
    prefix, node = "", None
    if request.param == "sqlite":
        store = SQLiteHistory(tmp_path / "history.db", "gw-1", SystemClock(), 30)
    else:
        node, prefix = request.getfixturevalue("opensearch"), new_prefix()
        await initialise(node.url, prefix)
        store = Refreshed(Access(node.url), prefix, "gw-1", SystemClock(), 30)
    await store.open()
    yield store
    await store.close()
    if node is not None:
        delete(node.url, prefix)


def began(number: int, device: str = "lamp-1", account: str = "acme", address: str = "10.0.0.1") -> Began:
    peer = ip_address(address)
    value = int(peer) | (MAPPED if peer.version == 4 else 0)
    return Began(account, device, (START_MS + number) << 16 | 0x7000, number, value >> 64, value % (1 << 64), "esp-idf")


def ended(number: int, device: str = "lamp-1", account: str = "acme", reason: str = "eof") -> Ended:
    drain = ("api", START_MS) if reason == "drain" else None
    high = (START_MS + number) << 16 | 0x7000
    return Ended(account, device, high, number, START_MS + number + 5, 1006, reason, Fault.NETWORK, drain)


def open_one(number: int, address: str = "10.0.0.1") -> PastConnection:
    name = text_of((START_MS + number) << 16 | 0x7000, number)
    return PastConnection(name, "gw-1", address, "esp-idf", START_MS + number)


def past(number: int, reason: str = "eof") -> PastConnection:
    drain = Drained("api", START_MS) if reason == "drain" else None
    known = open_one(number)
    return PastConnection(
        known.connection,
        known.gateway,
        known.address,
        known.device_class,
        known.connected_ms,
        START_MS + number + 5,
        1006,
        reason,
        Fault.NETWORK,
        drain,
    )


async def test_what_came_and_left_is_remembered(store: HistoryStore) -> None:
    assert await store.read("acme", "lamp-1") == []
    await store.write([])
    await store.write([began(1)])
    assert await store.read("acme", "lamp-1") == [open_one(1)]
    await store.write([ended(1, reason="drain"), began(2), ended(2), began(3)])
    assert await store.read("acme", "lamp-1") == [open_one(3), past(2), past(1, "drain")]


async def test_accounts_and_devices_are_apart(store: HistoryStore) -> None:
    await store.write([began(1, account="a", device="b"), began(2, account="", device="ab"), began(3, device="平和")])
    await store.write([ended(1, account="other", device="b"), ended(1, account="a", device="c")])
    assert await store.read("a", "b") == [open_one(1)]
    assert await store.read("", "ab") == [open_one(2)]
    assert await store.read("acme", "平和") == [open_one(3)]
    for account, device in (("a", "B"), ("ab", ""), ("other", "b"), ("a", "c")):
        assert await store.read(account, device) == []


async def test_the_newest_are_kept(store: HistoryStore) -> None:
    for number in range(1, MAX_KEPT + 20):
        await store.write([began(number), ended(number)])
    found = await store.read("acme", "lamp-1")
    assert found == [past(number) for number in range(MAX_KEPT + 19, 19, -1)]
    # The end of one that is kept no longer, and one without a beginning.
    await store.write([ended(3), ended(99_999), began(100), ended(100)])
    assert (await store.read("acme", "lamp-1"))[0] == past(100)


async def test_many_devices_come_and_leave_in_one_batch(store: HistoryStore) -> None:
    devices = [f"lamp-{number}" for number in range(700)]
    first = [began(1, device) for device in devices] + [ended(1, device) for device in devices[:600]]
    await store.write([*first, *(began(2, device) for device in devices[:650]), ended(2, "lamp-600")])
    assert await store.read("acme", "lamp-0") == [open_one(2), past(1)]
    assert await store.read("acme", "lamp-600") == [past(2), open_one(1)]
    assert await store.read("acme", "lamp-649") == [open_one(2), open_one(1)]
    assert await store.read("acme", "lamp-699") == [open_one(1)]


async def test_what_is_written_twice_is_remembered_once(store: HistoryStore) -> None:
    for _ in range(3):
        await store.write([began(1), ended(1), began(2)])
    assert await store.read("acme", "lamp-1") == [open_one(2), past(1)]


@pytest.mark.parametrize("address", ["10.0.0.1", "::1", "2001:db8::7", "0.0.0.0", "255.255.255.255"])
async def test_addresses_come_back_as_they_were(store: HistoryStore, address: str) -> None:
    await store.write([began(1, address=address)])
    assert await store.read("acme", "lamp-1") == [open_one(1, address)]
