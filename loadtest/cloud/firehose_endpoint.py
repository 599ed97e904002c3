"""The stand-in Firehose over real HTTP, and its deliveries into a real OpenSearch.

Not like AWS: signatures are not verified; one destination a stream; no transformation, encryption or compression;
failure objects are files in a folder; the buffer is kept in memory, so it is lost with this process.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout, web

from loadtest.cloud.firehose import DeliveryStream, Firehose, FirehoseError, StreamRecord, failure_object
from loadtest.cloud.listening import Listening, caller

_LOOK_EVERY_S = 0.1
_BULK_DOCUMENTS = 500


class FirehoseEndpoint:
    """`fail_with`: an error code of AWS's for every call, or `hang`, `refuse` (reset); "": none.

    `failures` is where failure objects are written. Methods are for one event loop. Listens on 127.0.0.1 only.
    """

    def __init__(self, opensearch_url: str, failures: Path, seed: int = 0) -> None:
        self.firehose = Firehose(time.monotonic, Random(seed))
        self.opensearch_url = opensearch_url
        self.failures = failures
        self.fail_with = ""
        self.requests: Counter[str] = Counter()
        self.paused = False
        self._listening = Listening()
        self._deliveries: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._delivering = asyncio.Lock()

    @property
    def url(self) -> str:
        """`http://127.0.0.1:…`; known after the first `start`."""
        return self._listening.url

    @property
    def environment(self) -> dict[str, str]:
        """Variables for a process that is to talk to this."""
        return caller(firehose=self.url)

    async def start(self) -> None:
        """Listen on a free port; after `close`, on the same one again."""
        application = web.Application(client_max_size=8 << 20)
        application.router.add_post("/", self._answer)
        self._closing.clear()
        await self._listening.open(application)
        if self._deliveries is None:
            self._deliveries = asyncio.create_task(self._deliver_forever(), name="firehose-deliveries")

    async def close(self) -> None:
        """Refuse connections; deliveries go on."""
        self._closing.set()
        await self._listening.close()

    async def stop(self) -> None:
        """Refuse connections and deliver nothing more."""
        await self.close()
        if self._deliveries is not None:
            self._deliveries.cancel()
            await asyncio.gather(self._deliveries, return_exceptions=True)
            self._deliveries = None

    async def flush(self, timeout_s: float = 60.0) -> None:
        """Deliver everything now. Raises TimeoutError when OpenSearch does not take it in time."""
        async with asyncio.timeout(timeout_s), _session() as session:
            while True:
                # What another delivery has in hand is in no buffer.
                await self._deliver(session, everything=True)
                if not any(stream.buffered for stream in self.firehose.streams.values()):
                    return
                await asyncio.sleep(_LOOK_EVERY_S)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        action = request.headers.get("X-Amz-Target", "").rpartition(".")[2]
        self.requests[action] += 1
        body = json.loads(await request.read())
        try:
            if self.fail_with == "hang":
                await self._closing.wait()
            if self.fail_with in ("hang", "refuse"):
                if request.transport is not None:
                    request.transport.abort()
                return web.Response()
            said, status = self._said(action, body), 200
        except FirehoseError as error:
            said, status = {"__type": error.code, "message": str(error)}, error.status
        return web.json_response(said, status=status, content_type="application/x-amz-json-1.1")

    def _said(self, action: str, body: dict[str, Any]) -> dict[str, Any]:
        if self.fail_with:
            unavailable = self.fail_with in ("ServiceUnavailableException", "InternalFailure")
            raise FirehoseError(self.fail_with, "as ordered", 503 if unavailable else 400)
        return self.firehose.answer(action, body)

    async def _deliver_forever(self) -> None:
        async with _session() as session:
            while True:
                await asyncio.sleep(_LOOK_EVERY_S)
                if not self.paused:
                    await self._deliver(session)

    async def _deliver(self, session: ClientSession, *, everything: bool = False) -> None:
        async with self._delivering:
            for stream in self.firehose.streams.values():
                records = self.firehose.due(stream, everything=everything)
                for first in range(0, len(records), _BULK_DOCUMENTS):
                    part = records[first : first + _BULK_DOCUMENTS]
                    failed = self.firehose.settle(stream, part, await self._bulk(session, stream, part))
                    await asyncio.to_thread(self._keep, stream, failed)

    async def _bulk(
        self, session: ClientSession, stream: DeliveryStream, records: Sequence[StreamRecord]
    ) -> list[tuple[str, str]]:
        """Code and message for each record; "" for one that is there."""
        lines: list[bytes] = []
        for record in records:
            own = {"_id": str(uuid.uuid4())} if stream.document_id == "FIREHOSE_DEFAULT" else {}
            lines += [json.dumps({"index": own}).encode(), record.data]
        url = f"{self.opensearch_url}/{stream.index}/_bulk"
        headers = {"Content-Type": "application/x-ndjson"}
        try:
            async with session.post(url, data=b"\n".join(lines) + b"\n", headers=headers) as response:
                answer: Any = await response.json(content_type=None)
                if response.status != 200:
                    return [(str(response.status), str(answer)[:200])] * len(records)
        except (ClientError, OSError, TimeoutError, ValueError) as error:
            return [("OS.ServiceException", type(error).__name__)] * len(records)
        results = [next(iter(item.values())) for item in answer["items"]]
        return [
            ("", "") if result["status"] < 300 or result["status"] == 409 else _failed(result) for result in results
        ]

    def _keep(self, stream: DeliveryStream, failed: Sequence[StreamRecord]) -> None:
        if not failed:
            return
        now_ms = int(time.time() * 1000)
        folder = self.failures / "AmazonOpenSearchService_failed"
        folder.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(failure_object(record, stream, now_ms)) + "\n" for record in failed)
        (folder / f"{stream.name}-{uuid.uuid4()}").write_text(text)


def _failed(result: dict[str, Any]) -> tuple[str, str]:
    return str(result["status"]), str(result.get("error", ""))[:500]


def _session() -> ClientSession:
    return ClientSession(timeout=ClientTimeout(total=10))
