"""The HistoryStore port on OpenSearch, for all gateways: a document a connection, made at its beginning and completed
at its end. What is written twice is stored once; a document is found by searches within a second.
"""

from __future__ import annotations

import asyncio
import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from ipaddress import IPv6Address
from typing import Any

from msgspec import json

from gateway.adapters.opensearch.connection import Access, Connection, NoAnswerError, Response
from gateway.adapters.opensearch.definitions import Names
from gateway.clock import Clock
from gateway.errors import StoreError
from gateway.history.record import MAX_KEPT, Began, Drained, Happening, PastConnection
from gateway.telemetry.log import Log
from gateway.wire.close_codes import Fault
from gateway.wire.uuid7 import text_of, time_ms_of

# About 2 MB: small domains take requests of 10 MiB.
BULK_LINES = 5000
# Done already, and nothing to complete: its beginning was never written, or is too old.
_FINE = (200, 201, 404, 409)
_DAY_S = 86_400.0
_DAY_MS = 86_400_000
_ANSWER = {"filter_path": "errors,items.*.status,items.*.error.reason"}

_log = Log("history")


class OpenSearchHistory:
    """`gateway` is whose connections are written. They are forgotten `keep_days` after their beginning."""

    def __init__(self, access: Access, prefix: str, gateway: str, clock: Clock, keep_days: int) -> None:
        self._connection = Connection(access)
        self._index = Names(prefix).connections
        self._gateway = gateway
        self._clock = clock
        self._keep_days = keep_days
        self._cleaned_s = clock.monotonic_s()

    async def open(self) -> None:
        """See the port. Whether the index is there is looked at with those of locations."""

    async def close(self) -> None:
        """See the port."""
        await self._connection.close()

    async def write(self, happenings: Sequence[Happening]) -> None:
        """See the port. A part may be there although this raises; it does no harm twice."""
        for first in range(0, len(happenings), BULK_LINES):
            part = happenings[first : first + BULK_LINES]
            body = await asyncio.to_thread(self._body, part)
            answer = await self._ask("POST", f"/{self._index}/_bulk", body, _ANSWER, lines=True)
            _check(answer.json())
        if self._clock.monotonic_s() - self._cleaned_s > _DAY_S:
            self._cleaned_s = self._clock.monotonic_s()
            await self._forget()

    async def read(self, account: str, device: str) -> list[PastConnection]:
        """See the port."""
        query = {"bool": {"filter": [{"term": {"account": account}}, {"term": {"device": device}}]}}
        body = json.encode({"query": query, "size": MAX_KEPT, "sort": [{"connection": "desc"}]})
        answer = await self._ask("POST", f"/{self._index}/_search", body)
        try:
            return [_record(hit["_source"]) for hit in answer.json()["hits"]["hits"]]
        except (LookupError, TypeError, ValueError) as error:
            raise StoreError(f"OpenSearch gave no usable answer: {type(error).__name__}") from error

    async def _forget(self) -> None:
        """Every gateway does it once a day; a document that another one deletes meanwhile is no failure."""
        before_ms = self._clock.time_ms() - self._keep_days * _DAY_MS
        body = json.encode({"query": {"range": {"connected": {"lt": before_ms}}}})
        query = {"conflicts": "proceed", "wait_for_completion": "false"}
        await self._ask("POST", f"/{self._index}/_delete_by_query", body, query)

    def _body(self, happenings: Sequence[Happening]) -> bytes:
        lines: list[bytes] = []
        for happening in happenings:
            connection = text_of(happening.id_high, happening.id_low)
            name = _name(happening.account, happening.device, connection)
            if isinstance(happening, Began):
                lines += [json.encode({"create": {"_id": name}}), json.encode(self._began(happening, connection))]
            else:
                drain = happening.drain or (None, None)
                end = {
                    "ended": happening.time_ms,
                    "code": happening.code,
                    "reason": happening.reason,
                    "fault": str(happening.fault),
                    "drain": drain[0],
                    "drain_began": drain[1],
                }
                lines += [json.encode({"update": {"_id": name}}), json.encode({"doc": end})]
        return b"\n".join([*lines, b""])

    def _began(self, began: Began, connection: str) -> dict[str, Any]:
        peer = IPv6Address(began.address_high << 64 | began.address_low)
        return {
            "account": began.account,
            "device": began.device,
            "connection": connection,
            "gateway": self._gateway,
            "address": str(peer.ipv4_mapped or peer),
            "class": began.device_class,
            "connected": time_ms_of(began.id_high),
        }

    async def _ask(
        self, method: str, path: str, body: bytes, query: dict[str, str] | None = None, *, lines: bool = False
    ) -> Response:
        try:
            answer = await self._connection.request(method, path, body, query=query, lines=lines)
        except NoAnswerError as error:
            raise StoreError(f"OpenSearch: {error}") from error
        if answer.status != 200:
            raise StoreError(f"OpenSearch: HTTP {answer.status} for {path}")
        return answer


def _name(account: str, device: str, connection: str) -> str:
    digest = hashlib.sha256(json.encode((account, device, connection))).digest()
    return urlsafe_b64encode(digest[:24]).decode()


def _check(found: Any) -> None:
    """Raises StoreError unless every item was taken, or is fine as it is."""
    if not isinstance(found, dict):
        raise StoreError("OpenSearch: its answer to a bulk request cannot be read")
    if not found.get("errors"):
        return
    for item in found.get("items", ()):
        for result in item.values():
            if result.get("status") not in _FINE:
                raise StoreError(f"OpenSearch: {result.get('status')} {result.get('error', {}).get('reason', '')}")


def _record(source: dict[str, Any]) -> PastConnection:
    drain, began_ms, fault = source.get("drain"), source.get("drain_began"), source.get("fault")
    return PastConnection(
        source["connection"],
        source["gateway"],
        source["address"],
        source["class"],
        source["connected"],
        source.get("ended"),
        source.get("code"),
        source.get("reason"),
        None if fault is None else Fault(fault),
        None if drain is None or began_ms is None else Drained(drain, began_ms),
    )
