from gateway.locations.batch import DeviceEvents
from gateway.locations.buffer import Buffer, Caller, Limits, Submission
from gateway.locations.outcome import Pressure
from tests.support.locations import RecordingSender, event


def submission(events: int, size_bytes: int = 10) -> Submission:
    group = DeviceEvents("a", "d", [event(str(number)) for number in range(events)])
    return Submission(Caller(RecordingSender()), group, size_bytes)


async def test_what_was_taken_counts_until_it_is_settled() -> None:
    buffer = Buffer(Limits(batch_events=5, pause_events=6, refuse_events=8))
    for _ in range(3):
        buffer.add(submission(2))
    assert (buffer.events, buffer.full, buffer.pressure()) == (6, True, Pressure.GO)
    assert buffer.fits(2, 0)
    assert not buffer.fits(3, 0)
    taken = buffer.take()
    assert len(taken) == 2
    assert (buffer.events, buffer.full, buffer.size_bytes) == (6, False, 30)
    buffer.settled(taken)
    assert (buffer.events, buffer.size_bytes) == (2, 10)
    assert len(buffer.take_all()) == 1
    assert not buffer


async def test_batches_end_at_their_bytes_but_hold_at_least_one_submission() -> None:
    buffer = Buffer(Limits(batch_bytes=25))
    for size in (10, 10, 10, 99, 10):
        buffer.add(submission(1, size))
    sizes = []
    while buffer:
        sizes.append([one.size_bytes for one in buffer.take()])
    assert sizes == [[10, 10], [10], [99], [10]]


async def test_there_is_room_for_one_when_nothing_is_kept() -> None:
    buffer = Buffer(Limits(pause_events=10))
    assert buffer.room_for(500) == 1
    assert buffer.room_for(1) == 5
    buffer.add(submission(7))
    assert buffer.room_for(1) == 0
