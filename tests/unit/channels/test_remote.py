"""Commands and duplicates over several gateways, which share an exchange in memory."""

from __future__ import annotations

import asyncio

import pytest

from gateway.adapters.clock import SystemClock
from gateway.channels.commands import DeviceError, Outcome, Progress, Settled
from gateway.channels.directory import Holder
from gateway.channels.envelopes import Carried, Displaced, Order, seal
from gateway.connections.ending import DRAIN
from tests.support.gateways import DEADLINE_S, FakeFleet, until
from tests.support.wire import CLOSE, client_frame, close_payload


def fleet(*names: str, flags: tuple[str, ...] = ()) -> FakeFleet:
    return FakeFleet(*(names or ("one", "two")), clock=SystemClock(), flags=flags)


async def within(sending: asyncio.Task[Settled]) -> Settled:
    return await asyncio.wait_for(sending, DEADLINE_S)


async def test_a_command_reaches_a_device_of_another_gateway() -> None:
    world = fleet()
    async with world as (one, two):
        lamp = two.join()
        await until(lambda: world.held_by() == "two")
        sending = one.begin()
        command = await lamp.command()
        assert (command["name"], command["args"]) == ("switch", {"on": True})
        assert 4000 < command["deadline_ms"] <= 5000
        two.local.report(lamp.connection, command["id"], Progress(50, "half"))
        lamp.answer(command["id"], Settled(Outcome.DONE, {"on": True}))
        lamp.answer(command["id"], Settled(Outcome.DONE, "twice"))
        assert await within(sending) == Settled(Outcome.DONE, {"on": True})
        sending = one.begin()
        command = await lamp.command()
        lamp.answer(command["id"], Settled(Outcome.FAILED, DeviceError("jammed", "the door is stuck")))
        assert await within(sending) == Settled(Outcome.FAILED, DeviceError("jammed", "the door is stuck"))


async def test_what_a_device_of_another_gateway_reports_is_told_meanwhile() -> None:
    world = fleet()
    async with world as (one, two):
        lamp = two.join()
        await until(lambda: world.held_by() == "two")
        told: list[Progress] = []
        sending = asyncio.create_task(one.courier.send("acme", "lamp", "switch", None, 5000, told=told.append))
        command = await lamp.command()
        for percent in (10, 20, 30):
            two.local.report(lamp.connection, command["id"], Progress(percent, None))
        await until(lambda: bool(told))
        # The others are of the same second: the newest of them would follow.
        assert told == [Progress(10, None)]
        lamp.answer(command["id"], Settled(Outcome.DONE, None))
        assert (await within(sending)).outcome is Outcome.DONE
        two.local.report(lamp.connection, command["id"], Progress(99, None))
        assert told == [Progress(10, None)]


async def test_a_device_that_never_answers_ends_with_what_it_reported() -> None:
    world = fleet()
    async with world as (one, two):
        lamp = two.join()
        await until(lambda: world.held_by() == "two")
        sending = one.begin(deadline_ms=300)
        command = await lamp.command()
        two.local.report(lamp.connection, command["id"], Progress(50, "half"))
        assert await within(sending) == Settled(Outcome.TIMED_OUT, progress=Progress(50, "half"))
        lamp.answer(command["id"], Settled(Outcome.DONE, "late"))
        assert two.local.in_flight == 0


async def test_refusals_of_the_holder_come_back() -> None:
    world = fleet()
    async with world as (one, two):
        two.join("deaf", "", "location:write")
        tiny = two.join("tiny", "tiny")
        await until(lambda: world.held_by("deaf") == world.held_by("tiny") == "two")
        assert (await within(one.begin("deaf"))).outcome is Outcome.DEAF
        sending = one.courier.send("acme", "tiny", "x", "y" * 2000, 5000)
        settled = await asyncio.wait_for(sending, DEADLINE_S)
        assert settled.outcome is Outcome.TOO_LARGE
        assert "this device takes 996" in settled.detail
        assert tiny.heard() == []
        assert (await within(one.begin("nobody"))).outcome is Outcome.UNKNOWN
        sending = one.courier.send("other", "deaf", "x", None, 5000)
        assert (await asyncio.wait_for(sending, DEADLINE_S)).outcome is Outcome.UNKNOWN


async def test_offline_says_how_it_left_whichever_gateway_it_was() -> None:
    world = fleet()
    async with world as (one, two):
        lamp = two.join()
        await until(lambda: world.held_by() == "two")
        lamp.transport.feed(client_frame(CLOSE, close_payload(1001)))
        lamp.transport.finish()
        await until(lambda: world.held_by() is None)
        settled = await within(one.begin())
        assert settled.outcome is Outcome.OFFLINE
        assert (settled.value.code, settled.value.reason) == (1001, "closed_by_peer")


async def test_a_device_that_moves_is_followed_until_the_deadline() -> None:
    world = fleet()
    async with world as (one, two):
        lamp = two.join()
        await until(lambda: world.held_by() == "two")
        lamp.connection.expect(1)
        lamp.connection.leave(DRAIN)
        sending = one.begin()
        lamp.transport.finish()
        await until(lambda: world.held_by() is None)
        again = one.join()
        command = await again.command()
        again.answer(command["id"], Settled(Outcome.DONE))
        assert (await within(sending)).outcome is Outcome.DONE


async def test_one_that_does_not_come_back_was_not_sent_it() -> None:
    world = fleet()
    async with world as (one, two):
        lamp = two.join()
        await until(lambda: world.held_by() == "two")
        lamp.connection.expect(1)
        lamp.connection.leave(DRAIN)
        assert (await within(one.begin(deadline_ms=200))).outcome is Outcome.GONE_UNSENT
        lamp.transport.finish()
        await until(lambda: world.held_by() is None)
        settled = await within(one.begin(deadline_ms=200))
        assert (settled.outcome, settled.value.reason) == (Outcome.OFFLINE, "drain")


@pytest.mark.parametrize("idempotent", [False, True])
async def test_what_was_on_the_wire_is_sent_again_only_when_it_says_so(idempotent: bool) -> None:
    world = fleet()
    async with world as (one, two):
        lamp = two.join()
        await until(lambda: world.held_by() == "two")
        sending = one.begin(idempotent=idempotent)
        await lamp.command()
        lamp.transport.finish()
        await until(lambda: world.held_by() is None)
        if not idempotent:
            assert (await within(sending)).outcome is Outcome.GONE
            return
        again = one.join()
        command = await again.command()
        again.answer(command["id"], Settled(Outcome.DONE))
        assert (await within(sending)).outcome is Outcome.DONE


async def test_an_idempotent_one_that_was_sent_once_may_have_been_carried_out() -> None:
    world = fleet()
    async with world as (one, two):
        lamp = two.join()
        await until(lambda: world.held_by() == "two")
        sending = one.begin(idempotent=True, deadline_ms=400)
        await lamp.command()
        lamp.transport.finish()
        assert (await within(sending)).outcome is Outcome.GONE


async def test_a_gateway_that_died_is_no_holder() -> None:
    world = fleet()
    async with world as (one, _):
        await one.peering.directory.renew()
        world.exchange.leases_s["three"] = float("inf")
        world.exchange.rows["acme", "lamp"] = world.exchange.rows.get(("acme", "lamp")) or _row("three")
        assert (await within(one.begin(deadline_ms=200))).outcome is Outcome.GONE_UNSENT
        world.exchange.leases_s.pop("three")
        assert (await within(one.begin(deadline_ms=200))).outcome is Outcome.OFFLINE


async def test_what_the_directory_has_wrong_is_mended() -> None:
    world = fleet()
    async with world as (one, two):
        world.exchange.rows["acme", "lamp"] = _row("two")
        assert (await within(one.begin(deadline_ms=500))).outcome in (Outcome.OFFLINE, Outcome.GONE_UNSENT)
        await until(lambda: world.held_by() is None)
        assert (await within(one.begin(deadline_ms=500))).outcome is Outcome.OFFLINE
        assert two.local.in_flight == 0


async def test_without_the_broker_ours_work_and_others_are_refused_at_once() -> None:
    world = fleet()
    async with world as (one, two):
        two.join("far")
        near = one.join("near")
        await until(lambda: world.held_by("far") == "two" and world.held_by("near") == "one")
        world.exchange.problem = "the exchange burns"
        settled = await within(one.begin("far", deadline_ms=60_000))
        assert settled == Settled(Outcome.UNREACHABLE, detail="the exchange burns")
        sending = one.begin("near")
        command = await near.command()
        near.answer(command["id"], Settled(Outcome.DONE))
        assert (await within(sending)).outcome is Outcome.DONE


async def test_all_is_announced_again_after_the_directory_was_lost() -> None:
    world = fleet()
    async with world as (one, two):
        lamp = two.join()
        await until(lambda: world.held_by() == "two")
        world.exchange.problem = "the exchange burns"
        gone, come = two.join("gone"), two.join("come")
        gone.transport.finish()
        world.exchange.rows.clear()
        world.exchange.counter = 0
        world.exchange.problem = ""
        for gateway in (one, two):
            gateway.peering.announcer.returned()
        await until(lambda: world.held_by() == world.held_by("come") == "two")
        assert world.held_by("gone") is None
        assert lamp.heard() == come.heard() == []


async def test_the_older_connection_of_a_device_is_closed_wherever_it_is() -> None:
    world = fleet()
    async with world as (one, two):
        older = one.join()
        await until(lambda: world.held_by() == "one")
        newer = two.join()
        await until(lambda: older.connection.transport.is_closing() or not older.connection.stays)
        goaway, code = older.heard()
        assert (goaway["type"], goaway["reason"], code) == ("goaway", "replaced", 4409)
        assert newer.connection.stays
        assert newer.heard() == []
        older.transport.finish()
        last = one.bench.hub.registry.last_disconnect("acme", "lamp")
        assert last is not None
        assert (last.reason, last.code, last.fault) == ("replaced_elsewhere", 4409, "plan")
        await until(lambda: one.peering.announcer.due == 0)
        assert world.held_by() == "two"


async def test_one_that_ends_for_good_at_a_close_frame_is_reset() -> None:
    world = fleet()
    async with world as (one, two):
        older = one.join("lamp", "esp-idf")
        await until(lambda: world.held_by() == "one")
        two.join("lamp", "esp-idf")
        await until(lambda: not older.connection.stays)
        (goaway,) = older.heard()
        assert goaway["reason"] == "replaced"
        one.bench.pass_time(1)
        assert older.transport.is_closing()
        assert older.heard() == []


async def test_where_duplicates_are_rejected_the_newer_one_goes() -> None:
    world = fleet(flags=("connections.duplicates=reject",))
    async with world as (one, two):
        older = one.join()
        await until(lambda: world.held_by() == "one")
        newer = two.join()
        await until(lambda: not newer.connection.stays)
        assert newer.heard() == [4403]
        assert older.connection.stays


async def test_where_they_are_allowed_both_stay_and_the_newest_gets_commands() -> None:
    world = fleet("one", "two", "three", flags=("connections.duplicates=allow",))
    async with world as (one, two, three):
        older = one.join()
        await until(lambda: world.held_by() == "one")
        newer = two.join()
        await until(lambda: world.held_by() == "two")
        sending = three.begin()
        command = await newer.command()
        newer.answer(command["id"], Settled(Outcome.DONE))
        assert (await within(sending)).outcome is Outcome.DONE
        assert older.connection.stays
        assert older.heard() == []


async def test_readers_may_have_many_connections_everywhere() -> None:
    world = fleet()
    async with world as (one, two):
        tabs = [one.join("me", "", "progress:read"), two.join("me", "", "progress:read")]
        two.join()
        await until(lambda: world.held_by() == "two")
        assert world.held_by("me") is None
        assert all(tab.connection.stays for tab in tabs)


async def test_nothing_of_another_account_is_touched() -> None:
    world = fleet()
    async with world as (one, two):
        lamp = two.join()
        await until(lambda: world.held_by() == "two")
        name = world.exchange.rows["acme", "lamp"].holder
        assert name is not None
        for account in ("other", "ACME", ""):
            envelope = seal("two", "one", account, Displaced("lamp", name.connection))
            assert await one.peering.peers.tell("two", account, Displaced("lamp", name.connection))
            two.peering.peers.receive(envelope)
            order = Order("lamp", name.connection, "x", None, 200)
            carried = await one.peering.peers.ask("two", account, order, Carried, 1)
            assert carried.outcome == Outcome.GONE_UNSENT.value
        assert lamp.connection.stays
        assert lamp.heard() == []
        assert world.held_by() == "two"


async def test_envelopes_that_are_not_for_us_are_dropped() -> None:
    world = fleet()
    async with world as (one, two):
        peers = two.peering.peers
        for data in (
            b"",
            b"\x00",
            b"{}",
            b'{"v":99}',
            b"[" * 10_000,
            seal("three", "one", "acme", Displaced("a", "b")),
        ):
            peers.receive(data)
        assert peers.dropped == 6
        peers.receive(seal("two", "one", "acme", Carried("done"), re="99"))
        peers.receive(seal("two", "one", "acme", Carried("done")))
        assert peers.dropped == 6
        lamp = two.join()
        await until(lambda: world.held_by() == "two")
        sending = one.begin()
        command = await lamp.command()
        # A result under another account is no answer to ours.
        one.peering.peers.receive(seal("one", "two", "other", Carried("done", "forged"), re="1"))
        lamp.answer(command["id"], Settled(Outcome.DONE, "true"))
        assert (await within(sending)).value == "true"


def _row(gateway: str):  # type: ignore[no-untyped-def]
    from gateway.adapters.memory.exchange import _Row

    return _Row(Holder(gateway, "c"), 1, None)
