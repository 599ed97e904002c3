import asyncio
from collections.abc import Mapping, Sequence

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from gateway.locations.batch import DeviceEvents
from gateway.locations.buffer import Limits
from gateway.locations.outcome import Durability, Rejection
from gateway.locations.ports import Pace
from tests.support.locations import (
    MemoryStream,
    RecordingSender,
    event,
)
from tests.support.pipelines import Parts


async def test_events_are_acknowledged_once_they_are_indexed(parts: Parts) -> None:
    await parts.pipeline.start()
    assert not parts.submit("1", "2")
    assert parts.sender.decided == 0
    await parts.told(2)
    assert parts.sender.acknowledged == [("1", Durability.INDEXED), ("2", Durability.INDEXED)]
    assert len(parts.index.stored) == 2


async def test_nothing_to_store_is_nothing_to_tell(parts: Parts) -> None:
    await parts.pipeline.start()
    assert not parts.submit()


async def test_what_comes_during_a_commit_is_the_next_batch_and_one_acknowledgement_a_sender(parts: Parts) -> None:
    parts.index.gate = asyncio.Event()
    other = RecordingSender()
    await parts.pipeline.start()
    parts.submit("0")
    await asyncio.sleep(0)
    for number in range(1, 11):
        parts.submit(str(number))
        parts.submit(str(number), sender=other, device="e")
    parts.index.gate.set()
    await parts.told(11)
    assert parts.index.batches == [1, 20]
    assert (parts.sender.acknowledgements, other.acknowledgements) == (2, 1)


@pytest.mark.parametrize("limits", [Limits(gather_s=3600, batch_events=5), Limits(gather_s=3600, gather_messages=5)])
async def test_the_first_batch_after_a_rest_goes_at_once_and_the_next_ones_gather_until_they_are_enough(
    parts: Parts, limits: Limits
) -> None:
    parts.make(limits=limits)
    await parts.pipeline.start()
    parts.submit("0")
    await parts.told(1)
    for number in range(1, 5):
        parts.submit(str(number))
        await asyncio.sleep(0)
    assert parts.index.batches == [1]
    parts.submit("5")
    await parts.told(6)
    assert parts.index.batches == [1, 5]
    parts.clock.now_s += 3600
    parts.submit("6")
    await parts.told(7)
    parts.submit("7")
    await parts.pipeline.stop(10)
    assert parts.index.batches == [1, 5, 1, 1]


async def test_a_batch_gathers_no_longer_than_it_may(parts: Parts) -> None:
    parts.make(limits=Limits(gather_s=0.01))
    await parts.pipeline.start()
    parts.submit("0")
    await parts.told(1)
    parts.submit("1")
    await parts.told(2)


async def test_batches_are_bounded(parts: Parts) -> None:
    parts.make(limits=Limits(batch_events=5))
    parts.index.gate = asyncio.Event()
    await parts.pipeline.start()
    for number in range(6):
        parts.submit(f"{number}a", f"{number}b")
    parts.submit(*[f"big{n}" for n in range(9)])
    parts.index.gate.set()
    await parts.told(21)
    assert parts.index.batches == [4, 4, 4, 9]


async def test_above_the_first_mark_senders_pause_and_are_resumed_in_turn(parts: Parts) -> None:
    parts.make(limits=Limits(pause_events=3, batch_events=2))
    parts.index.gate = asyncio.Event()
    await parts.pipeline.start()
    assert not parts.submit("1", "2", "3")
    assert parts.submit("4")
    assert parts.submit("5")
    assert parts.sender.resumed == 0
    parts.index.gate.set()
    await parts.sender.wait_for(lambda: parts.sender.resumed > 0)
    await parts.told(5)
    assert parts.sender.resumed == 1


async def test_paused_senders_are_let_go_although_the_first_ones_have_nothing_to_send(parts: Parts) -> None:
    parts.make(limits=Limits(pause_events=80, refuse_events=10_000))
    parts.index.gate = asyncio.Event()
    await parts.pipeline.start()
    senders = [RecordingSender() for _ in range(300)]
    for number, sender in enumerate(senders):
        parts.submit("x", sender=sender, device=f"d{number}")
    parts.index.gate.set()
    await senders[-1].wait_for(lambda: senders[-1].resumed == 1)
    assert [sender.resumed for sender in senders] == [0] * 80 + [1] * 220


async def test_one_account_neither_pauses_another_nor_is_it_served_first(parts: Parts) -> None:
    parts.make(limits=Limits(batch_events=10, pause_events=20, refuse_events=1000))
    parts.index.gate = asyncio.Event()
    await parts.pipeline.start()
    flood, quiet = RecordingSender(), RecordingSender()
    for number in range(100):
        flood.submit_to(parts.pipeline, "noisy", "d", [event(str(number))])
    assert flood.submit_to(parts.pipeline, "noisy", "d", [event("last")])
    assert not quiet.submit_to(parts.pipeline, "quiet", "d", [event("mine")])
    before_mine: list[int] = []
    quiet.check = lambda: before_mine.append(flood.decided)
    parts.index.gate.set()
    await quiet.wait_for(lambda: quiet.decided == 1)
    assert before_mine[0] <= 20
    await flood.wait_for(lambda: flood.decided == 101 and flood.resumed == 1)


async def test_above_the_second_mark_events_are_refused_at_once(parts: Parts) -> None:
    parts.make(limits=Limits(pause_events=1, refuse_events=3))
    parts.index.gate = asyncio.Event()
    await parts.pipeline.start()
    parts.submit("1", "2", "3")
    assert parts.submit("4")
    ((name, code, retry_after_ms),) = parts.sender.refused
    assert (name, code) == ("4", "overloaded")
    assert retry_after_ms is not None
    assert 1000 <= retry_after_ms <= 4000
    parts.index.gate.set()
    await parts.told(4)


async def test_bytes_count_too(parts: Parts) -> None:
    parts.make(limits=Limits(pause_bytes=1000, refuse_bytes=2000))
    parts.index.gate = asyncio.Event()
    await parts.pipeline.start()
    assert not parts.submit("1", "2", "3")
    assert parts.submit("4")
    assert parts.submit("5", "6", "7")
    assert [name for name, _, _ in parts.sender.refused] == ["5", "6", "7"]
    parts.index.gate.set()


async def test_a_sender_that_is_gone_is_not_told_and_its_events_are_stored(parts: Parts) -> None:
    parts.make(limits=Limits(pause_events=0))
    parts.index.gate = asyncio.Event()
    await parts.pipeline.start()
    gone = RecordingSender()
    assert parts.submit("1", sender=gone)
    parts.pipeline.forget(gone)
    parts.pipeline.forget(gone)
    parts.submit("2")
    parts.index.gate.set()
    await parts.told(1)
    assert (gone.decided, gone.resumed) == (0, 0)
    assert len(parts.index.stored) == 2


async def test_stop_flushes_everything(parts: Parts) -> None:
    await parts.pipeline.start()
    for number in range(100):
        parts.submit(str(number))
    await parts.pipeline.stop(10)
    assert len(parts.sender.acknowledged) == 100
    assert not parts.submit("late")
    assert parts.sender.refused[0][:2] == ("late", "shutting_down")
    await parts.pipeline.stop(10)


@pytest.mark.parametrize("spool_fails", [False, True])
async def test_stop_is_bounded_and_spools_what_the_index_does_not_take(parts: Parts, spool_fails: bool) -> None:
    parts.index.gate = asyncio.Event()
    parts.spool.fails = spool_fails
    await parts.pipeline.start()
    parts.submit("1")
    await asyncio.sleep(0)
    parts.submit("2")
    await asyncio.wait_for(parts.pipeline.stop(0.1), 10)
    if spool_fails:
        assert [(name, code) for name, code, _ in parts.sender.refused] == [
            ("1", "shutting_down"),
            ("2", "shutting_down"),
        ]
    else:
        assert parts.sender.acknowledged == [("1", Durability.SPOOLED), ("2", Durability.SPOOLED)]


async def test_a_cancelled_stop_acknowledges_nothing_that_is_not_durable(parts: Parts) -> None:
    parts.index.gate = asyncio.Event()
    await parts.pipeline.start()
    parts.submit("1")
    stopping = asyncio.create_task(parts.pipeline.stop(60))
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert parts.sender.decided == 0
    assert parts.pipeline.conservation() == 0
    await parts.pipeline.stop(1)
    assert parts.sender.acknowledged == [("1", Durability.SPOOLED)]


async def test_metrics_name_their_units(parts: Parts) -> None:
    await parts.pipeline.start()
    parts.submit("1")
    await parts.told(1)
    registry = CollectorRegistry()
    registry.register(parts.pipeline)
    text = generate_latest(registry).decode()
    assert 'heiwa_locations_acknowledged_total{durability="indexed"} 1.0' in text
    assert "heiwa_locations_unaccounted_events 0.0" in text
    assert "heiwa_locations_flush_seconds_count" in text


async def test_as_many_batches_are_written_at_once_as_the_index_takes(parts: Parts) -> None:
    parts.make(limits=Limits(batch_events=1, gather_s=0))
    parts.index.pace = Pace(3, 1000, 1000)
    parts.index.gate = asyncio.Event()
    await parts.pipeline.start()
    for number in range(10):
        parts.submit(f"e{number}", device=f"d{number}")
    for _ in range(50):
        await asyncio.sleep(0)
    assert parts.index.most_at_once == 3
    parts.index.gate.set()
    await parts.told(10)
    assert parts.index.most_at_once == 3
    await parts.pipeline.stop(1)


async def test_what_overflows_holds_no_place_of_the_index(parts: Parts) -> None:
    stream = MemoryStream()
    gate = asyncio.Event()
    put = stream.put

    async def slow(groups: Sequence[DeviceEvents]) -> Mapping[int, Rejection]:
        await gate.wait()
        return await put(groups)

    stream.put = slow  # type: ignore[method-assign]
    parts.stream = stream
    parts.make(limits=Limits(batch_events=1, gather_s=0))
    parts.index.answer = lambda groups: {0: Rejection("busy", overflow=True)} if groups[0].device == "slow" else {}
    await parts.pipeline.start()
    parts.submit("e1", device="slow")
    parts.submit("e2")
    await parts.told(1)
    assert parts.sender.acknowledged == [("e2", Durability.INDEXED)]
    gate.set()
    await parts.told(2)
    assert parts.sender.acknowledged[1] == ("e1", Durability.FIREHOSE)
    await parts.pipeline.stop(1)
