"""The whole of location ingest on a real OpenSearch, with a stand-in Firehose, and its accounts at the end."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from gateway.adapters.aws.firehose import FirehoseStream
from gateway.adapters.clock import SystemClock
from gateway.adapters.dead_letters import DeadLetterFile
from gateway.adapters.opensearch.connection import Access
from gateway.adapters.opensearch.definitions import Names
from gateway.adapters.opensearch.index import OpenSearchLocationIndex
from gateway.adapters.sqlite.spool import SQLiteSpool
from gateway.locations import congestion, pipeline, replay, storing
from gateway.locations.buffer import Limits
from gateway.locations.document import document_id, index_of
from gateway.locations.event import LocationEvent
from gateway.locations.outcome import Durability
from gateway.locations.pipeline import LocationPipeline
from loadtest.cloud.firehose import DeliveryStream
from loadtest.cloud.firehose_endpoint import FirehoseEndpoint
from tests.support.faulty_search import FaultyProxy
from tests.support.locations import RecordingSender
from tests.support.opensearch import delete, documents, initialise, new_prefix

DEVICES = 20
STREAM = "overflow"
# What waits a second in life waits a tenth here.
SPEED = 10.0
# What an event waits for before it goes another way: an answer, a place, a round trip as it should be.
PATIENCE = ((storing, "SLOW_S"), (pipeline, "PATIENCE_S"), (congestion, "WAIT_S"), (congestion, "ROUND_TRIP_S"))
PATIENT_S = 60.0


class Ingest:
    """Made by `started`; `finish` mends, drains everything and compares what was told with what is stored."""

    def __init__(self, node_url: str, folder: Path, prefix: str) -> None:
        self.node_url = node_url
        self.folder = folder
        self.prefix = prefix
        self.proxy = FaultyProxy(node_url)
        self.firehose = FirehoseEndpoint(node_url, folder / "failures")
        self.stream = self.firehose.firehose.add(DeliveryStream(STREAM, Names(prefix).overflow, interval_s=1.0))
        self.sender = RecordingSender()
        self.sent: set[str] = set()
        # Today's index is warm; the other one is made by the first event.
        self.now_ms = int(time.time() * 1000)
        self._number = 0

    @property
    def index_name(self) -> str:
        return index_of(self.prefix, self.now_ms)

    async def start(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *,
        url: str = "",
        firehose: bool = True,
        spool_max_bytes: int = 1 << 30,
        timeout_s: float = 3.0,
        ack_min: Durability = Durability.SPOOLED,
        warm: bool = True,
        patient: bool = False,
    ) -> None:
        """`patient`: a slow answer of the index is waited for, and only a fault leads another way."""
        monkeypatch.setattr(congestion, "PROBE_EVERY_S", congestion.PROBE_EVERY_S / SPEED)
        monkeypatch.setattr(replay, "INDEX_RETRY_S", replay.INDEX_RETRY_S / SPEED)
        monkeypatch.setattr(replay, "MAX_REST_S", replay.MAX_REST_S / SPEED)
        if patient:
            for module, name in PATIENCE:
                monkeypatch.setattr(module, name, PATIENT_S)
        await self.proxy.start()
        await self.firehose.start()
        await initialise(self.node_url, self.prefix)
        clock, random = SystemClock(), Random(1)
        self.index = OpenSearchLocationIndex(
            Access(url or self.proxy.url, timeout_s=timeout_s), self.prefix, clock, random, another_way=firehose
        )
        stream = FirehoseStream(STREAM, clock, random, 0, self.firehose.environment) if firehose else None
        for name, value in self.firehose.environment.items():
            monkeypatch.setenv(name, value)
        self._stream = stream
        self.spool = SQLiteSpool(self.folder / "spool.db", spool_max_bytes)
        await self.index.open()
        await self.spool.open()
        self.letters = self.folder / "dead-letters.jsonl"
        self.pipeline = LocationPipeline(
            self.index,
            self.spool,
            DeadLetterFile(self.letters, clock),
            clock,
            random,
            stream=stream,
            ack_min=ack_min,
            limits=Limits(batch_events=500, gather_s=0.01),
        )
        self.sender.check = self._check
        await self.pipeline.start()
        if warm:
            await self.send(DEVICES)

    def _check(self) -> None:
        assert self.pipeline.conservation() == 0

    def submit(self, number: int, **fields: Any) -> None:
        """So many events more, a message of each device in turn."""
        each = -(-number // DEVICES)
        for device in range(DEVICES):
            events = []
            for _ in range(min(each, number)):
                self._number += 1
                name = f"e{self._number}"
                self.sent.add(name)
                events.append(LocationEvent(name, self.now_ms + self._number, 35.0, 139.0, **fields))
            number -= len(events)
            self.sender.submit_to(self.pipeline, "a:b", f"d%{device}", events)

    async def send(self, number: int, timeout_s: float = 60.0, **fields: Any) -> None:
        """Submit, and wait until all is decided."""
        self.submit(number, **fields)
        async with asyncio.timeout(timeout_s):
            await self.sender.wait_for(lambda: self.sender.decided >= len(self.sent))

    @property
    def told(self) -> Counter[str]:
        """How many events were told what."""
        found: Counter[str] = Counter(durability.value for _, durability in self.sender.acknowledged)
        found.update(code for _, code, _ in self.sender.refused)
        return found

    async def drained(self, timeout_s: float = 60.0) -> None:
        """Until spool and stream have given everything to the index."""
        async with asyncio.timeout(timeout_s):
            while self.spool.events:
                # Probes need something to send; a real fleet never rests.
                await self.send(1)
                await asyncio.sleep(0.05)
        await self.firehose.flush(timeout_s)

    async def stop(self) -> None:
        await self.pipeline.stop(5.0)
        await self.index.close()
        if self._stream is not None:
            await self._stream.close()
        await self.spool.close()
        await self.firehose.stop()
        await self.proxy.close()

    def account(self) -> dict[str, int]:
        """Compare what was told with what is stored, event by event; asserts that nothing is lost or doubled."""
        acknowledged = dict(self.sender.acknowledged)
        assert len(acknowledged) == len(self.sender.acknowledged), "told twice"
        refused = {name for name, _, _ in self.sender.refused}
        assert not refused & acknowledged.keys()
        assert refused | acknowledged.keys() == self.sent
        ids = {one["id"]: key for key, one in documents(self.node_url, self.prefix).items()}
        dead = {
            letter["event"]["id"]
            for letter in map(json.loads, self.letters.read_text().splitlines() if self.letters.exists() else ())
        }
        good = {name for name, durability in acknowledged.items() if durability is not Durability.DEAD_LETTER}
        buried = acknowledged.keys() - good
        lost = good - ids.keys() - dead
        assert not lost, [(name, acknowledged[name]) for name in sorted(lost)[:5]]
        assert buried <= dead
        assert not dead & ids.keys()
        # What was refused may be stored all the same: its device sends it again, as the same document.
        assert ids.keys() - good <= refused
        for name, key in ids.items():
            device = documents_device(key)
            assert key == document_id("a:b", device, name)
        return {"indexed": len(ids), "dead": len(dead), "refused": len(refused), "lost": len(good - ids.keys() - dead)}


def documents_device(key: str) -> str:
    """The device in a `_id` of these tests."""
    return key.split(":")[1].replace("%25", "%")


async def make(node_url: str, folder: Path) -> Ingest:
    """Not started yet."""
    return Ingest(node_url, folder, new_prefix())


def remove(ingest: Ingest) -> None:
    delete(ingest.node_url, ingest.prefix)
