"""Log channels: every event, in order, once, from any offset that is kept; and a gap is told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.channels.channel import Channel
from gateway.channels.readers import AT_ONCE
from tests.support.channels import FakeSubscriber, Hall

RUN_1 = Channel("acme", "run:1")


def _hall(events: int = 0) -> Hall:
    hall = Hall()
    hall.log.create("acme", "1")
    for number in range(events):
        hall.log.append("acme", "1", {"n": number})
    return hall


def _offsets(heard: list[Any]) -> list[int]:
    return [message["offset"] for message in heard if message["type"] == "event"]


async def _subscribed(hall: Hall, slot: int = 0, after: int | None = None) -> FakeSubscriber:
    subscriber = hall.join(slot)
    hall.subscribing.subscribe(subscriber, "run:1", after)
    await hall.settle()
    return subscriber


async def test_a_snapshot_comes_first_and_events_follow() -> None:
    hall = _hall(2)
    phone = await _subscribed(hall)
    assert phone.hear() == [{"type": "subscribed", "channel": "run:1", "offset": 2, "snapshot": {"events": 2}}]
    hall.log.append("acme", "1", {"n": 2})
    hall.fanout.hint(RUN_1)
    await hall.settle()
    assert phone.hear() == [{"type": "event", "channel": "run:1", "time": 3000, "offset": 3, "data": {"n": 2}}]
    assert hall.neighbours.told == [("wanted", RUN_1), ("hint", RUN_1)]


async def test_after_an_offset_the_rest_comes() -> None:
    hall = _hall(250)
    phone = await _subscribed(hall, after=7)
    heard = phone.hear()
    assert heard[0] == {"type": "subscribed", "channel": "run:1", "offset": 7}
    assert _offsets(heard) == list(range(8, 251))


async def test_a_poll_finds_what_no_hint_told() -> None:
    hall = _hall(1)
    phone = await _subscribed(hall)
    polling = asyncio.create_task(hall.fanout.run())
    hall.log.append("acme", "1", {})
    async with asyncio.timeout(10):
        await phone.pushed.wait()
    assert _offsets(phone.hear()) == [2]
    polling.cancel()


@pytest.mark.parametrize("name", ["run:2", "run:", "run", "run:theirs", "walk:1", "", "run:1:2"])
async def test_what_is_unknown_and_what_is_foreign_is_answered_alike(name: str) -> None:
    hall = _hall()
    hall.log.create("other", "theirs")
    phone = hall.join(0)
    for after in (None, 0, 5):
        hall.subscribing.subscribe(phone, name, after)
        await hall.settle()
        message = "there is no such channel"
        assert phone.hear() == [{"type": "error", "code": "not_found", "message": message, "channel": name}]
    assert hall.fanout.is_idle


async def test_an_offset_that_is_not_kept_is_a_gap_and_a_snapshot() -> None:
    hall = _hall(9)
    hall.log.trim("acme", "1", 5)
    assert _offsets((await _subscribed(hall, 0, after=5)).hear()) == [6, 7, 8, 9]
    heard = (await _subscribed(hall, 1, after=4)).hear()
    assert [message.get("code", message["type"]) for message in heard] == ["subscribed", "offset_too_old", "subscribed"]
    assert heard[-1]["offset"] == 9


async def test_a_log_that_began_anew_is_a_gap_and_a_snapshot() -> None:
    hall = _hall(3)
    heard = (await _subscribed(hall, 0, after=40)).hear()
    assert [message.get("code", message["type"]) for message in heard] == ["subscribed", "offset_too_new", "subscribed"]


async def test_a_slow_subscriber_goes_on_from_the_store() -> None:
    hall = _hall()
    slow, quick = await _subscribed(hall, 0), await _subscribed(hall, 1)
    slow.slow = True
    for _ in range(3):
        hall.log.append("acme", "1", {})
        hall.fanout.hint(RUN_1)
        await hall.settle()
    assert _offsets(quick.hear()) == [1, 2, 3]
    assert _offsets(slow.hear()) == []
    hall.wake(slow)
    await hall.settle()
    assert _offsets(slow.hear()) == [1, 2, 3]


async def test_many_that_come_back_at_different_offsets_are_served_by_few_reads() -> None:
    hall = _hall(60)
    reads = hall.log.reads
    returned = [hall.join(slot) for slot in range(12)]
    for subscriber in returned:
        hall.subscribing.subscribe(subscriber, "run:1", subscriber.slot)
    await hall.settle()
    assert [_offsets(each.hear()) for each in returned] == [list(range(slot + 1, 61)) for slot in range(12)]
    assert hall.log.reads - reads <= 3


async def test_large_events_come_in_pieces_and_one_that_is_too_large_is_told() -> None:
    hall = _hall()
    for size in (10_000, 10_000, 10_000, 10_000, 17_000, 10):
        hall.log.append("acme", "1", "x" * size)
    phone = await _subscribed(hall, after=0)
    assert phone.pieces >= 2
    heard = phone.hear()
    assert _offsets(heard) == [1, 2, 3, 4, 6]
    (left_out,) = [message for message in heard if message["type"] == "error"]
    assert left_out["code"] == "too_large"
    assert left_out["channel"] == "run:1"


async def test_a_store_that_is_down_refuses_new_ones_and_keeps_the_others() -> None:
    hall = _hall(1)
    phone = await _subscribed(hall)
    phone.hear()
    hall.log.down = True
    late = await _subscribed(hall, 1)
    assert [message["code"] for message in late.hear()] == ["unavailable"]
    hall.log.append("acme", "1", {})
    hall.fanout.hint(RUN_1)
    await hall.settle()
    hall.log.down = False
    hall.fanout.hint(RUN_1)
    await hall.settle()
    assert _offsets(phone.hear()) == [2]


async def test_a_log_that_is_gone_ends_its_subscriptions() -> None:
    hall = _hall(1)
    phone = await _subscribed(hall)
    phone.hear()
    del hall.log.events["acme", "1"]
    hall.fanout.hint(RUN_1)
    await hall.settle()
    assert [message["code"] for message in phone.hear()] == ["not_found"]
    assert hall.fanout.is_idle


async def test_few_channels_are_read_at_a_time_and_all_of_them_in_the_end() -> None:
    hall, running, most = Hall(slots=100), 0, 0

    async def count() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    hall.log.before = count
    for slot in range(100):
        hall.log.create("acme", str(slot))
        hall.subscribing.subscribe(hall.join(slot), f"run:{slot}", None)
    await hall.settle()
    assert most == AT_ONCE
    assert [subscriber.hear()[0]["type"] for subscriber in hall.holders if subscriber] == ["subscribed"] * 100


async def test_who_left_while_the_store_was_asked_hears_nothing() -> None:
    hall, asked = _hall(1), asyncio.Event()
    hall.log.before = asked.wait  # type: ignore[assignment]
    gone = hall.join(0)
    hall.subscribing.subscribe(gone, "run:1", None)
    await asyncio.sleep(0)
    hall.part(gone)
    next_one = hall.join(0)
    asked.set()
    await hall.settle()
    assert gone.hear() == next_one.hear() == []
    assert hall.neighbours.told == [("wanted", RUN_1), ("unwanted", RUN_1)]


async def test_who_waits_is_answered_whatever_goes_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    hall = _hall(1)

    async def fail(*_: object) -> None:
        raise ValueError("a defect")

    monkeypatch.setattr(hall.log, "snapshot", fail)
    phone = await _subscribed(hall)
    assert [message["code"] for message in phone.hear()] == ["unavailable"]
    assert not hall.fanout.has(phone, "run:1")


async def test_a_poll_that_goes_wrong_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hall = _hall(1)
    phone = await _subscribed(hall)
    phone.hear()
    hall.log.append("acme", "1", {})
    newest = hall.log.newest

    async def fail(*_: object) -> None:
        raise ValueError("a defect")

    monkeypatch.setattr(hall.log, "newest", fail)
    await hall.fanout.poll()
    assert "channel_failed" in caplog.text
    monkeypatch.setattr(hall.log, "newest", newest)
    await hall.fanout.poll()
    await hall.settle()
    assert _offsets(phone.hear()) == [2]


async def test_one_subscriber_that_fails_keeps_nothing_from_the_others() -> None:
    hall = _hall(1)
    broken, phone = await _subscribed(hall), await _subscribed(hall, 1)
    phone.hear()
    broken.defect = ValueError("a defect")
    hall.log.append("acme", "1", {})
    hall.fanout.hint(RUN_1)
    await hall.settle()
    assert _offsets(phone.hear()) == [2]
    assert broken.failures == [broken.defect]
