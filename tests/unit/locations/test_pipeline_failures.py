"""Stores that refuse, fail or raise: what becomes of the events, and that nothing ends."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from gateway.errors import StoreError, TaskFailedError
from gateway.locations.batch import DeviceEvents, count, items
from gateway.locations.outcome import Durability, Rejection
from tests.support.locations import (
    RecordingSender,
    event,
)
from tests.support.pipelines import Parts, fail


async def test_what_the_index_does_not_take_is_spooled_and_replayed(parts: Parts) -> None:
    parts.index.answer = fail
    await parts.pipeline.start()
    parts.submit("1", "2")
    await parts.told(2)
    assert parts.sender.acknowledged == [("1", Durability.SPOOLED), ("2", Durability.SPOOLED)]
    assert parts.spool.events == 2
    parts.index.answer = None
    await parts.spool.changes.wait_for(lambda: not parts.spool.events)
    assert len(parts.index.stored) == 2


async def test_while_the_index_fails_it_is_left_alone_for_a_second(parts: Parts) -> None:
    calls = 0

    def failing(groups: Sequence[DeviceEvents]) -> Mapping[int, Rejection]:
        nonlocal calls
        calls += 1
        raise StoreError("gone")

    parts.index.answer = failing
    parts.spool.oldest = never  # type: ignore[method-assign]
    await parts.pipeline.start()
    for number in range(3):
        parts.submit(str(number))
        await parts.told(number + 1)
    assert calls == 1
    parts.clock.now_s += 1.0
    parts.submit("3")
    await parts.told(4)
    assert calls == 2


async def never(after: int = 0) -> None:
    await asyncio.Event().wait()


async def test_rejected_items_are_spooled_or_dead_letters_and_the_others_are_indexed(parts: Parts) -> None:
    parts.index.answer = lambda groups: (
        {1: Rejection("busy"), 2: Rejection("bad", poison=True)} if count(groups) == 4 else {}
    )
    await parts.pipeline.start()
    parts.submit("0", "1", "2", "3")
    await parts.told(4)
    assert dict(parts.sender.acknowledged) == {
        "0": Durability.INDEXED,
        "1": Durability.SPOOLED,
        "2": Durability.DEAD_LETTER,
        "3": Durability.INDEXED,
    }
    assert [group.events[0].id for group, _ in parts.letters.letters] == ["2"]


async def test_an_event_refused_with_a_code_goes_nowhere_else(parts: Parts) -> None:
    parts.index.answer = lambda groups: {0: Rejection("its share", code="account_full"), 2: Rejection("busy")}
    await parts.pipeline.start()
    parts.submit("0", "1", "2")
    await parts.told(3)
    ((name, code, retry_after_ms),) = parts.sender.refused
    assert (name, code) == ("0", "account_full")
    assert retry_after_ms is not None
    assert dict(parts.sender.acknowledged) == {"1": Durability.INDEXED, "2": Durability.SPOOLED}
    assert parts.letters.letters == []


async def test_dead_letters_that_cannot_be_written_are_refused(parts: Parts) -> None:
    parts.letters.fails = True
    parts.index.answer = lambda groups: {0: Rejection("bad", poison=True)}
    await parts.pipeline.start()
    parts.submit("1")
    await parts.told(1)
    assert [(name, code) for name, code, _ in parts.sender.refused] == [("1", "storage_failed")]


@pytest.mark.parametrize(("max_events", "fails", "code"), [(0, False, "spool_full"), (9, True, "storage_failed")])
async def test_when_the_spool_fails_too_events_are_refused(
    parts: Parts, max_events: int, fails: bool, code: str
) -> None:
    parts.index.answer = fail
    parts.spool.max_events, parts.spool.fails = max_events, fails
    await parts.pipeline.start()
    parts.submit("1")
    await parts.told(1)
    ((_, told, retry_after_ms),) = parts.sender.refused
    assert told == code
    assert retry_after_ms is not None
    assert retry_after_ms >= 5000


async def test_with_ack_min_indexed_nothing_is_spooled(parts: Parts) -> None:
    parts.make(ack_min=Durability.INDEXED)
    parts.index.answer = fail
    await parts.pipeline.start()
    parts.submit("1")
    await parts.told(1)
    assert parts.sender.refused[0][:2] == ("1", "index_unavailable")
    assert parts.spool.events == 0


async def test_replay_buries_poison_and_keeps_what_is_refused(parts: Parts) -> None:
    await parts.spool.append([DeviceEvents("a", "d", [event("1"), event("2")])])
    await parts.spool.append([DeviceEvents("a", "d", [event("3")])])
    parts.index.answer = lambda groups: {0: Rejection("busy")} if groups[0].events[0].id == "1" else {}
    await parts.pipeline.start()
    await parts.index.changes.wait_for(lambda: len(parts.index.stored) == 2)
    assert {key[2] for key in parts.index.stored} == {"2", "3"}
    await parts.spool.changes.wait_for(lambda: 2 not in parts.spool.records)
    assert list(parts.spool.records) == [1]


async def test_a_sender_that_raises_harms_nobody_else(parts: Parts) -> None:
    def broken() -> None:
        raise RuntimeError("a bug in a connection")

    bad = RecordingSender()
    bad.check = broken
    await parts.pipeline.start()
    parts.submit("1", sender=bad)
    parts.submit("2")
    await parts.told(1)
    assert not parts.pipeline.failed.done()


async def test_an_unexpected_error_is_the_pipelines_failure_and_stop_saves_the_events(parts: Parts) -> None:
    def bug() -> float:
        raise ZeroDivisionError("a bug")

    parts.clock.monotonic_s = bug  # type: ignore[method-assign]
    await parts.pipeline.start()
    parts.submit("1")
    with pytest.raises(TaskFailedError, match="locations-flush") as caught:
        await asyncio.wait_for(asyncio.shield(parts.pipeline.failed), 10)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert not parts.submit("2")
    assert parts.sender.refused[0][:2] == ("2", "shutting_down")
    await parts.pipeline.stop(5)
    assert parts.sender.acknowledged == [("1", Durability.SPOOLED)]


async def test_whatever_the_index_raises_costs_only_the_event_at_fault(parts: Parts) -> None:
    def choke(groups: Sequence[DeviceEvents]) -> Mapping[int, Rejection]:
        if any(one.id == "bad" for _, one in items(groups)):
            raise KeyError((1, "lamp"))
        return {}

    parts.index.answer = choke
    await parts.pipeline.start()
    neighbour = RecordingSender()
    parts.submit("0", sender=neighbour, device="other")
    parts.submit("1", "bad", "2")
    await parts.told(3)
    await neighbour.wait_for(lambda: neighbour.decided == 1)
    assert neighbour.acknowledged == [("0", Durability.INDEXED)]
    assert dict(parts.sender.acknowledged) == {
        "1": Durability.INDEXED,
        "2": Durability.INDEXED,
        "bad": Durability.DEAD_LETTER,
    }
    ((group, rejection),) = parts.letters.letters
    assert group.events[0].id == "bad"
    assert "KeyError" in rejection.reason
    assert not parts.pipeline.failed.done()
    assert parts.spool.events == 0


async def test_whatever_the_spool_raises_costs_only_the_event_at_fault(parts: Parts) -> None:
    keep = parts.spool.append

    async def choke(groups: Sequence[DeviceEvents]) -> None:
        if any(one.id == "bad" for _, one in items(groups)):
            raise UnicodeEncodeError("utf-8", "x", 0, 1, "surrogates not allowed")
        await keep(groups)

    parts.index.answer = fail
    parts.spool.append = choke  # type: ignore[method-assign]
    await parts.pipeline.start()
    parts.submit("1", "bad", "2")
    await parts.told(3)
    assert dict(parts.sender.acknowledged) == {
        "1": Durability.SPOOLED,
        "2": Durability.SPOOLED,
        "bad": Durability.DEAD_LETTER,
    }
    assert not parts.pipeline.failed.done()


async def test_what_the_spool_does_not_take_of_a_part_is_refused(parts: Parts) -> None:
    keep = parts.spool.append

    async def choke(groups: Sequence[DeviceEvents]) -> None:
        names = [one.id for _, one in items(groups)]
        if len(names) > 1:
            raise KeyError("a bug")
        if names == ["2"]:
            raise StoreError("the disk is gone")
        await keep(groups)

    parts.index.answer = fail
    parts.spool.append = choke  # type: ignore[method-assign]
    await parts.pipeline.start()
    parts.submit("1", "2", "3")
    await parts.told(3)
    assert [(name, code) for name, code, _ in parts.sender.refused] == [("2", "storage_failed")]
    assert dict(parts.sender.acknowledged) == {"1": Durability.SPOOLED, "3": Durability.SPOOLED}


async def test_letters_that_raise_are_refused_and_nothing_ends(parts: Parts) -> None:
    async def choke(letters: object) -> None:
        raise ValueError("a bug")

    parts.letters.append = choke  # type: ignore[method-assign]
    parts.index.answer = lambda groups: {0: Rejection("bad", poison=True)}
    await parts.pipeline.start()
    parts.submit("1")
    await parts.told(1)
    assert [(name, code) for name, code, _ in parts.sender.refused] == [("1", "storage_failed")]
    assert not parts.pipeline.failed.done()
