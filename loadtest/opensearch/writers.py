"""Ways to bring location events into OpenSearch that are in use today, and ours: one a process, for the loss table.

`python -m loadtest.opensearch.writers KIND URL PREFIX FIREHOSE_STREAM SECONDS PEAK SEED FOLDER` sends the arrivals of
`arrivals` and prints one JSON object. It says of each event what its sender was told, never what it hoped.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import math
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from gateway.locations.document import document_id, index_of
from gateway.locations.event import LocationEvent

DEVICES = 200
ACCOUNT = "peaks"
# Consumers of one queue, as several tasks of a service have them.
WORKERS = 8
CHUNK = 500
Event = tuple[str, LocationEvent]
WriteEvents = Callable[[Sequence[Event]], Awaitable[int]]
log = logging.getLogger("writers")


def rate_at(share: float, peak: float) -> float:
    """Events a second at this share of the day: two peaks, one in the morning and one in the evening."""
    hills = sum(math.exp(-(((share - middle) / 0.09) ** 2)) for middle in (0.33, 0.72))
    return peak * (0.08 + 0.92 * hills)


async def arrivals(seconds: float, peak: float, take: Callable[[list[Event]], None]) -> int:
    """Hand over what has arrived every 20 ms; how many it was."""
    began_s = time.monotonic()
    number, owed = 0, 0.0
    while (passed_s := time.monotonic() - began_s) < seconds:
        owed += rate_at(passed_s / seconds, peak) * 0.02
        batch: list[Event] = []
        now_ms = int(time.time() * 1000)
        while owed >= 1:
            owed -= 1
            number += 1
            place = 35 + number % 1000 / 1e4
            batch.append((f"d{number % DEVICES}", LocationEvent(f"e{number}", now_ms, place, 139.0, speed=3.5)))
        take(batch)
        await asyncio.sleep(max(0.0, began_s + passed_s + 0.02 - time.monotonic()))
    return number


def document(prefix: str, device: str, event: LocationEvent, *, own_id: bool) -> dict[str, Any]:
    """An action of opensearch-py's helpers."""
    action: dict[str, Any] = {
        "_index": index_of(prefix, event.time),
        "_op_type": "create",
        "account": ACCOUNT,
        "device": device,
        "id": event.id,
        "time": event.time,
        "location": [event.lon, event.lat],
        "speed": event.speed,
    }
    return {**action, "_id": document_id(ACCOUNT, device, event.id)} if own_id else action


def async_bulk(client: Any, prefix: str, *, best: bool) -> WriteEvents:
    """opensearch-py's helper, as it comes, and as its documentation would have it at its best."""
    from opensearchpy.exceptions import OpenSearchException
    from opensearchpy.helpers import async_bulk as helper

    options: dict[str, Any] = {"raise_on_error": False, "max_retries": 5, "initial_backoff": 0.1, "max_backoff": 2}

    async def write(events: Sequence[Event]) -> int:
        actions = [document(prefix, device, event, own_id=best) for device, event in events]
        try:
            stored, failed = await helper(client, actions, **(options if best else {}))
        except OpenSearchException as error:
            log.warning("bulk failed: %s", type(error).__name__)
            return 0
        if failed:
            log.warning("%s documents failed", failed if isinstance(failed, int) else len(failed))
        return int(stored)

    return write


def article(client: Any, prefix: str, firehose: Any, stream: str, *, best: bool) -> WriteEvents:
    """Direct; what is answered 429 goes to Firehose; everything else is logged.

    At its best with identities of its own, a whole refused request to Firehose, too, and FailedPutCount looked at.
    """
    from opensearchpy.exceptions import OpenSearchException, TransportError

    async def overflow(events: Sequence[Event]) -> int:
        records = []
        for device, event in events:
            body = document(prefix, device, event, own_id=False)
            body = {name: value for name, value in body.items() if not name.startswith("_")}
            name = document_id(ACCOUNT, device, event.id)
            records.append({"Data": json.dumps({**body, "document_id": name}).encode()})
        taken = 0
        for first in range(0, len(records), 500):
            left = records[first : first + 500]
            for _ in range(4 if best else 1):
                answer = await firehose.put_record_batch(DeliveryStreamName=stream, Records=left)
                if not best:
                    taken += len(left)
                    break
                failed = [
                    record
                    for record, said in zip(left, answer["RequestResponses"], strict=True)
                    if said.get("ErrorCode")
                ]
                taken += len(left) - len(failed)
                left = failed
                if not left:
                    break
        return taken

    async def write(events: Sequence[Event]) -> int:
        body: list[Any] = []
        for device, event in events:
            action = document(prefix, device, event, own_id=best)
            target = {name: action.pop(name) for name in ("_index", "_id") if name in action}
            action.pop("_op_type")
            body += [{"create": target}, action]
        try:
            answer = await client.bulk(body=body)
        except TransportError as error:
            if best and error.status_code == 429:
                return await overflow(events)
            log.warning("bulk failed: %s", error.status_code)
            return 0
        except OpenSearchException as error:
            log.warning("bulk failed: %s", type(error).__name__)
            return 0
        statuses = [item["create"]["status"] for item in answer["items"]]
        refused = [event for event, status in zip(events, statuses, strict=True) if status == 429]
        stored = sum(status in (200, 201, 409) for status in statuses)
        return stored + (await overflow(refused) if refused else 0)

    return write


async def theirs(make: Callable[[Any, Any], WriteEvents], url: str, seconds: float, peak: float) -> dict[str, Any]:
    """Workers that empty a queue in chunks, with the clients of the libraries as they come."""
    from aiobotocore.session import get_session
    from opensearchpy import AsyncOpenSearch

    queue: asyncio.Queue[Event] = asyncio.Queue()
    acknowledged = 0
    async with (
        AsyncOpenSearch(url, timeout=10) as client,
        get_session().create_client("firehose", region_name=os.environ["AWS_REGION"]) as firehose,
    ):
        write = make(client, firehose)

        async def work() -> None:
            nonlocal acknowledged
            while True:
                batch = [await queue.get()]
                while len(batch) < CHUNK and not queue.empty():
                    batch.append(queue.get_nowait())
                try:
                    stored = await write(batch)
                except Exception as error:
                    log.warning("lost: %s", type(error).__name__)
                    stored = 0
                acknowledged += stored
                for _ in batch:
                    queue.task_done()
                await asyncio.sleep(0.02)

        def put_all(batch: list[Event]) -> None:
            for one in batch:
                queue.put_nowait(one)

        workers = [asyncio.create_task(work()) for _ in range(WORKERS)]
        sent = await arrivals(seconds, peak, put_all)
        await asyncio.wait_for(queue.join(), 120)
        for worker in workers:
            worker.cancel()
    return {"accepted": sent, "acknowledged": acknowledged}


async def ours(url: str, prefix: str, stream: str, folder: Path, seconds: float, peak: float) -> dict[str, Any]:
    """The pipeline of the gateway with its spool, without its sockets."""
    from gateway.adapters.aws.firehose import FirehoseStream
    from gateway.adapters.clock import SystemClock
    from gateway.adapters.dead_letters import DeadLetterFile
    from gateway.adapters.opensearch.connection import Access
    from gateway.adapters.opensearch.index import OpenSearchLocationIndex
    from gateway.adapters.sqlite.spool import SQLiteSpool
    from gateway.app.location_parts import limits
    from gateway.locations.pipeline import LocationPipeline
    from gateway.settings.model import Locations

    clock, random = SystemClock(), Random(1)
    index = OpenSearchLocationIndex(Access(url), prefix, clock, random, another_way=True)
    spool = SQLiteSpool(folder / "spool.db", 1 << 30)
    overflow = FirehoseStream(stream, clock, random)
    await index.open()
    await spool.open()
    pipeline = LocationPipeline(
        index,
        spool,
        DeadLetterFile(folder / "dead.jsonl", clock),
        clock,
        random,
        stream=overflow,
        limits=limits(Locations(opensearch_url=url)),
    )
    await pipeline.start()
    told = _Told()

    def take(batch: list[Event]) -> None:
        devices: dict[str, list[LocationEvent]] = {}
        for device, event in batch:
            devices.setdefault(device, []).append(event)
        for device, events in devices.items():
            if pipeline.submit(told, told, ACCOUNT, device, events).refusal is not None:
                told.refused += len(events)

    sent = await arrivals(seconds, peak, take)
    async with asyncio.timeout(120):
        await told.settled(sent)
        # The spool says nothing when it is empty.
        while spool.events:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    await pipeline.stop(5)
    await index.close()
    await overflow.close()
    await spool.close()
    return {"accepted": sent, "acknowledged": sum(told.durable.values()), "refused": told.refused, **told.durable}


class _Told:
    """The Outcomes of everything that is sent."""

    def __init__(self) -> None:
        self.durable: dict[str, int] = {}
        self.refused = 0
        self._changed = asyncio.Event()

    async def settled(self, number: int) -> None:
        """Until so many events were decided."""
        while sum(self.durable.values()) + self.refused < number:
            self._changed.clear()
            await self._changed.wait()

    def acknowledge(self, sender: Any, events: Sequence[LocationEvent], durability: Any) -> None:
        self.durable[durability.value] = self.durable.get(durability.value, 0) + len(events)
        self._changed.set()

    def refuse(self, sender: Any, ids: Sequence[str], refusal: Any) -> None:
        self.refused += len(ids)
        self._changed.set()

    def resume(self, sender: Any) -> None:
        """It never paused."""


def main() -> None:
    kind, url, prefix, stream, seconds, peak, folder = sys.argv[1:]
    best = kind.endswith("best")
    if kind == "ours":
        running = ours(url, prefix, stream, Path(folder), float(seconds), float(peak))
    elif kind.startswith("async_bulk"):
        running = theirs(lambda client, _: async_bulk(client, prefix, best=best), url, float(seconds), float(peak))
    else:
        running = theirs(
            lambda client, firehose: article(client, prefix, firehose, stream, best=best),
            url,
            float(seconds),
            float(peak),
        )
    logging.basicConfig(level="CRITICAL")
    # What loading costs is no event's.
    importlib.import_module("aiobotocore.session")
    importlib.import_module("opensearchpy")
    began_s = time.process_time()
    found = asyncio.run(running)
    found["cpu_us"] = (time.process_time() - began_s) / found["accepted"] * 1e6
    found["rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(found))


if __name__ == "__main__":
    main()
