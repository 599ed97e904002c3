"""Who comes and goes is written down in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from gateway.connections.ending import DRAIN
from gateway.errors import StoreError
from gateway.history import recorder as module
from gateway.history.record import Began, Ended, Happening
from gateway.history.recorder import Recorder
from tests.support.bench import Bench, device
from tests.support.wire import CLOSE, client_frame, close_payload


class Store:
    """Remembers what was written, in batches; `problem`: takes nothing."""

    def __init__(self) -> None:
        self.batches: list[list[Happening]] = []
        self.problem = ""
        self.defect: Exception | None = None
        self.hangs: asyncio.Event | None = None

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def write(self, happenings: Sequence[Happening]) -> None:
        if self.hangs is not None:
            await self.hangs.wait()
        if self.problem:
            raise StoreError(self.problem)
        if self.defect is not None:
            raise self.defect
        self.batches.append(list(happenings))

    async def read(self, account: str, device: str) -> list[object]:
        return []


class Desk:
    def __init__(self) -> None:
        self.bench = Bench()
        self.store = Store()
        self.recorder = Recorder(self.bench.hub.table, self.store)  # type: ignore[arg-type]
        self.bench.hub.registry.followers += (self.recorder,)


async def test_a_store_that_does_not_answer_holds_up_no_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "FINISH_S", 0.01)
    desk = Desk()
    desk.bench.open(device("a"))
    desk.store.hangs = asyncio.Event()
    # The task of the recorder is in the middle of it, too.
    writing = asyncio.create_task(desk.recorder.flush())
    await desk.recorder.finish()
    assert [record.getMessage() for record in caplog.records] == ["history_not_written"]
    desk.store.hangs.set()
    await writing
    assert len(desk.store.batches) == 1


async def test_each_end_says_how_and_by_which_drain() -> None:
    desk = Desk()
    first, left = desk.bench.open(device("a"))
    desk.bench.open(device("b", "other", "progress:read"))
    moved, drained = desk.bench.open(device("c"))
    left.feed(client_frame(CLOSE, close_payload(1000)))
    left.finish()
    desk.recorder.drain = lambda: ("api", 7)
    moved.leave(DRAIN)
    drained.finish()
    await desk.recorder.flush()
    ((*came, closed, sent_away),) = desk.store.batches
    assert [(one.account, one.device) for one in came] == [("acme", "a"), ("other", "b"), ("acme", "c")]
    assert all(isinstance(one, Began) for one in came)
    assert isinstance(closed, Ended)
    assert isinstance(sent_away, Ended)
    assert (closed.device, closed.code, closed.reason, closed.drain) == ("a", 1000, "closed_by_peer", None)
    assert (sent_away.device, sent_away.reason, sent_away.drain) == ("c", "drain", ("api", 7))
    assert came[0].id_low == closed.id_low
    await desk.recorder.flush()
    assert len(desk.store.batches) == 1
    assert first.profile.exclusive


async def test_what_the_store_does_not_take_waits_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_DUE", 3)
    monkeypatch.setattr(module, "BATCH", 2)
    desk = Desk()
    desk.store.problem = "disk full"
    for name in "abcde":
        desk.bench.open(device(name))
    await desk.recorder.flush()
    await desk.recorder.flush()
    assert desk.store.batches == []
    desk.store.problem = ""
    await desk.recorder.flush()
    assert [[one.device for one in batch] for batch in desk.store.batches] == [["a", "b"], ["c"]]
    assert desk.recorder.lost == 2


async def test_what_no_store_can_take_holds_up_nothing() -> None:
    desk = Desk()
    desk.bench.open(device("a"))
    desk.store.defect = ValueError("a surrogate")
    await desk.recorder.flush()
    desk.store.defect = None
    desk.bench.open(device("b"))
    await desk.recorder.flush()
    assert [[one.device for one in batch] for batch in desk.store.batches] == [["b"]]
    assert desk.recorder.lost == 1
