"""Who is connected is announced to the directory: in batches, again from time to time, and no more after the end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from gateway.adapters.clock import SystemClock
from gateway.adapters.memory.exchange import Exchange, MemoryBroker, MemoryDirectory
from gateway.channels import announcing as module
from gateway.channels.announcing import Announcer
from gateway.channels.directory import Change, Closed, Duplicates, Opened, Standing
from gateway.channels.envelopes import Content, Displaced
from gateway.channels.peers import Peers
from gateway.errors import BrokerDownError
from tests.support.bench import Bench, device
from tests.support.gateways import until


class Directory(MemoryDirectory):
    """Remembers what was written at once, and how often the lease was renewed."""

    def __init__(self, exchange: Exchange, gateway: str) -> None:
        super().__init__(exchange, gateway)
        self.batches: list[list[Change]] = []
        self.renewals = 0

    async def write(self, changes: Sequence[Change], rule: Duplicates) -> list[Standing]:
        standings = await super().write(changes, rule)
        self.batches.append(list(changes))
        return standings

    async def renew(self) -> bool:
        self.renewals += 1
        return await super().renew()


class Desk:
    """A gateway without sockets; `async with` it runs its announcer."""

    def __init__(self) -> None:
        self.bench = Bench(maximum=5000)
        self.exchange = Exchange(SystemClock())
        self.directory = Directory(self.exchange, "one")
        self.peers = Peers(MemoryBroker(self.exchange, "one"))
        self.announcer = Announcer(self.bench.hub, self.peers, self.directory)
        self.bench.hub.registry.followers += (self.announcer,)

    async def __aenter__(self) -> Desk:
        self._task = asyncio.create_task(self.announcer.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def rows(self) -> int:
        return sum(row.holder is not None for row in self.exchange.rows.values())


async def test_many_that_come_together_are_few_writes() -> None:
    desk = Desk()
    for number in range(1200):
        desk.bench.open(device(f"d{number}"))
    async with desk:
        await until(lambda: desk.rows() == 1200)
    assert [len(batch) for batch in desk.directory.batches] == [500, 500, 200]


async def test_one_that_comes_and_goes_within_a_tick_is_written_as_gone() -> None:
    desk = Desk()
    _, transport = desk.bench.open(device("a"))
    transport.finish()
    desk.bench.open(device("b"))
    async with desk:
        await until(lambda: desk.announcer.due == 0 and desk.rows() == 1)
    ((gone, there),) = desk.directory.batches
    assert isinstance(gone, Closed)
    assert isinstance(there, Opened)
    assert (gone.device, there.device) == ("a", "b")


async def test_a_connection_that_replaces_one_within_a_tick_is_written() -> None:
    desk = Desk()
    _, before = desk.bench.open(device("a"))
    async with desk:
        await until(lambda: desk.rows() == 1)
        desk.bench.open(device("a"))
        before.finish()
        await until(lambda: len(desk.directory.batches) == 2)
    (gone, there) = desk.directory.batches[1]
    assert isinstance(gone, Closed)
    assert isinstance(there, Opened)
    assert gone.connection != there.connection
    assert desk.rows() == 1


async def test_a_broker_that_fails_leaves_both_to_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = Desk()
    _, before = desk.bench.open(device("a"))
    async with desk:
        await until(lambda: desk.rows() == 1)
        write = desk.directory.write

        async def fail(changes: Sequence[Change], rule: Duplicates) -> list[Standing]:
            monkeypatch.setattr(desk.directory, "write", write)
            desk.announcer.returned()
            raise BrokerDownError("away")

        monkeypatch.setattr(desk.directory, "write", fail)
        desk.bench.open(device("a"))
        before.finish()
        await until(lambda: len(desk.directory.batches) == 2)
    assert [type(one) for one in desk.directory.batches[1]][:2] == [Closed, Opened]


async def test_what_the_directory_lost_comes_back_with_the_next_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RENEW_S", 0.05)
    monkeypatch.setattr(module, "_ROUND_S", 10.0)
    desk = Desk()
    desk.bench.open(device("a"))
    async with desk:
        await until(lambda: desk.rows() == 1)
        (first,) = desk.exchange.rows.values()
        desk.exchange.rows.clear()
        desk.bench.clock.advance(11)
        await until(lambda: desk.rows() == 1)
    (again,) = desk.exchange.rows.values()
    # The connection keeps its number.
    assert again == first


async def test_changes_while_the_broker_is_away_are_kept_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KEPT", 3)
    desk = Desk()
    desk.exchange.problem = "burns"
    async with desk:
        for name in "abcde":
            desk.bench.open(device(name))
        assert desk.announcer.due == 3
        desk.exchange.problem = ""
        desk.announcer.returned()
        # Those that were forgotten are announced with all others.
        await until(lambda: desk.rows() == 5)


async def test_a_token_that_lets_it_send_makes_it_known() -> None:
    desk = Desk()
    reader, _ = desk.bench.open(device("a", "acme", "progress:read"))
    async with desk:
        await asyncio.sleep(2 * module.TICK_S)
        assert desk.rows() == 0
        registry = desk.bench.hub.registry
        reader.profile = registry.profile(device("a"))
        registry.changed(reader)
        await until(lambda: desk.rows() == 1)


async def test_after_the_end_no_lease_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RENEW_S", 0.0)
    desk = Desk()
    async with desk:
        desk.announcer.returned()
        _, transport = desk.bench.open(device("a"))
        await until(lambda: desk.directory.renewals > 0 and desk.rows() == 1)
        transport.finish()
        await desk.announcer.leave()
        assert desk.exchange.leases_s == {}
        renewals = desk.directory.renewals
        desk.announcer.returned()
        await asyncio.sleep(3 * module.TICK_S)
        assert (desk.directory.renewals, desk.exchange.leases_s) == (renewals, {})
    row = desk.exchange.rows["acme", "a"]
    assert (row.holder, row.last is not None) == (None, True)


async def test_a_hung_directory_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LEAVE_S", 0.05)

    async def hang(*_: object) -> list[Standing]:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    desk = Desk()
    desk.bench.open(device("a"))
    monkeypatch.setattr(desk.directory, "write", hang)
    await asyncio.wait_for(desk.announcer.leave(), 10)
    assert desk.announcer.due == 1


async def test_one_that_cannot_be_announced_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()

    def fail(*_: object) -> None:
        raise ValueError("a defect")

    desk.announcer.settled = fail
    async with desk:
        desk.bench.open(device("a"))
        await until(lambda: "announcing_failed" in caplog.text)
        desk.announcer.settled = lambda *_: None
        desk.bench.open(device("b"))
        await until(lambda: desk.rows() == 2)


async def test_a_directory_that_was_emptied_is_filled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RENEW_S", 0.0)
    desk = Desk()
    desk.bench.open(device("a"))
    async with desk:
        await until(lambda: desk.rows() == 1 and desk.directory.renewals > 1)
        written = len(desk.directory.batches)
        await until(lambda: desk.directory.renewals > 3)
        assert len(desk.directory.batches) == written
        desk.exchange.rows.clear()
        desk.exchange.leases_s.clear()
        await until(lambda: desk.rows() == 1)


async def test_one_that_cannot_be_announced_keeps_no_others_from_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    desk = Desk()
    write = desk.directory.write

    async def refuse_one(changes: Sequence[Change], rule: Duplicates) -> list[Standing]:
        if any(change.device == "b" for change in changes):
            raise ValueError("a defect")
        return await write(changes, rule)

    monkeypatch.setattr(desk.directory, "write", refuse_one)
    for name in "abc":
        desk.bench.open(device(name))
    async with desk:
        await until(lambda: desk.rows() == 2)
    assert [len(batch) for batch in desk.directory.batches] == [1, 1]
    assert caplog.text.count("announcing_failed") == 1


async def test_while_it_is_announced_alone_a_loss_of_the_broker_forgets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RENEW_S", 0.05)
    desk = Desk()
    write, failures = desk.directory.write, [ValueError("a defect"), None, BrokerDownError("away")]

    async def fail(changes: Sequence[Change], rule: Duplicates) -> list[Standing]:
        failure = failures.pop(0) if failures else None
        if failure is not None:
            raise failure
        return await write(changes, rule)

    monkeypatch.setattr(desk.directory, "write", fail)
    for name in "abc":
        desk.bench.open(device(name))
    async with desk:
        await until(lambda: desk.rows() == 3)
    assert [len(batch) for batch in desk.directory.batches] == [1, 2]


async def test_what_could_not_be_written_alone_keeps_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RENEW_S", 0.05)
    desk = Desk()
    _, before = desk.bench.open(device("a"))
    async with desk:
        await until(lambda: desk.rows() == 1)
        write, failures = desk.directory.write, [ValueError("a defect"), BrokerDownError("away")]

        async def fail(changes: Sequence[Change], rule: Duplicates) -> list[Standing]:
            if failures:
                raise failures.pop(0)
            return await write(changes, rule)

        monkeypatch.setattr(desk.directory, "write", fail)
        before.finish()
        desk.bench.open(device("a"))
        await until(lambda: len(desk.directory.batches) == 2)
    # With `reject` the new one would be ended for the old one.
    assert [type(one) for one in desk.directory.batches[1]] == [Closed, Opened]


async def test_one_whose_token_became_weaker_is_written_as_gone_when_it_ends() -> None:
    desk = Desk()
    connection, transport = desk.bench.open(device("a"))
    async with desk:
        await until(lambda: desk.rows() == 1)
        connection.profile = desk.bench.hub.registry.profile(device("a", "acme", "progress:read"))
        desk.bench.hub.registry.changed(connection)
        transport.finish()
        await until(lambda: desk.rows() == 0)
    (((gone,)),) = desk.directory.batches[1:]
    assert isinstance(gone, Closed)
    assert gone.last is not None


async def test_who_is_displaced_is_told_although_the_broker_fails_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RENEW_S", 0.05)
    desk = Desk()
    told: list[Displaced] = []
    tell, failures = desk.peers.tell, 1

    async def fail_once(gateway: str, account: str, content: Content) -> bool:
        nonlocal failures
        if failures:
            failures -= 1
            raise BrokerDownError("away")
        assert isinstance(content, Displaced)
        told.append(content)
        return await tell(gateway, account, content)

    monkeypatch.setattr(desk.peers, "tell", fail_once)
    other = MemoryDirectory(desk.exchange, "two")
    await other.renew()
    await other.write([Opened("acme", "a", "before", 1000)], Duplicates.REPLACE)
    async with desk:
        desk.bench.open(device("a"))
        await until(lambda: told == [Displaced("a", "before")])
