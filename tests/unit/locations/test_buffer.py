from gateway.locations.batch import DeviceEvents
from gateway.locations.buffer import Buffer, Caller, Limits, Submission
from tests.support.locations import RecordingSender, event


def submission(events: int, size_bytes: int = 10, account: str = "a") -> Submission:
    group = DeviceEvents(account, "d", [event(str(number)) for number in range(events)])
    return Submission(Caller(RecordingSender(), None, account), group, size_bytes)


async def test_what_was_taken_counts_until_it_is_settled() -> None:
    buffer = Buffer(Limits(batch_events=5, pause_events=6, refuse_events=8))
    assert [buffer.offer(submission(2)) for _ in range(3)] == [True] * 3
    assert (buffer.events, buffer.enough, buffer.presses("a")) == (6, True, False)
    assert not buffer.offer(submission(2))
    assert not buffer.offer(submission(3, account="b"))
    taken = buffer.take(1 << 30)
    assert len(taken) == 2
    assert (buffer.events, buffer.enough, buffer.size_bytes) == (6, False, 30)
    assert buffer.settled(taken) == 4
    assert (buffer.events, buffer.size_bytes) == (2, 10)
    assert len(buffer.take_all()) == 1
    assert not buffer


async def test_another_account_has_what_is_free() -> None:
    buffer = Buffer(Limits(pause_events=6, refuse_events=8))
    assert [buffer.offer(submission(2)) for _ in range(4)] == [True, True, True, False]
    assert buffer.offer(submission(2, account="b"))


async def test_accounts_are_taken_in_turns_each_in_its_order() -> None:
    buffer = Buffer(Limits(batch_events=4))
    for number in range(6):
        assert buffer.offer(submission(1, number))
    for size, account in ((100, "b"), (101, "b"), (200, "c")):
        assert buffer.offer(submission(1, size, account))
    batches = []
    while buffer:
        batches.append([one.size_bytes for one in buffer.take(1 << 30)])
    assert batches == [[0, 100, 200, 1], [101, 2, 3, 4], [5]]


async def test_one_account_leaves_room_for_the_others_and_pauses_only_itself() -> None:
    buffer = Buffer(Limits(pause_events=100, refuse_events=1000))
    while buffer.offer(submission(10)):
        pass
    assert 600 < buffer.events < 700
    assert buffer.presses("a")
    held = buffer.take_all()
    buffer.settled(held[50:])
    assert buffer.presses("a")
    assert not buffer.presses("b")
    assert buffer.room_for("a", 10) == 0
    assert buffer.room_for("b", 10) == 0
    buffer.settled(held[20:50])
    assert buffer.room_for("b", 10) == 5
    buffer.settled(held[:20])
    assert (buffer.events, buffer.size_bytes, buffer._accounts) == (0, 0, {})


async def test_batches_end_at_their_bytes_but_hold_at_least_one_submission() -> None:
    buffer = Buffer(Limits(batch_bytes=25))
    for size in (10, 10, 10, 99, 10):
        assert buffer.offer(submission(1, size))
    sizes = []
    while buffer:
        sizes.append([one.size_bytes for one in buffer.take(1 << 30)])
    assert sizes == [[10, 10], [10], [99], [10]]


async def test_there_is_room_for_one_when_nothing_is_kept() -> None:
    buffer = Buffer(Limits(pause_events=10))
    assert buffer.room_for("a", 500) == 1
    assert buffer.room_for("a", 1) == 5
    assert buffer.offer(submission(7))
    assert buffer.room_for("a", 1) == 0
