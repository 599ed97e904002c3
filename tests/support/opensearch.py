"""A real OpenSearch node for tests, and an index on it under a name of its own."""

from __future__ import annotations

import itertools
import json
import os
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from gateway.adapters.clock import SystemClock
from gateway.adapters.opensearch.cluster import Cluster
from gateway.adapters.opensearch.connection import Access, Connection
from gateway.adapters.opensearch.definitions import Names
from gateway.adapters.opensearch.index import OpenSearchLocationIndex
from gateway.clock import Clock
from gateway.locations.batch import DeviceEvents
from gateway.locations.outcome import Rejection
from gateway.locations.ports import Pace
from gateway.locations.query import Found, Query
from loadtest.opensearch.install import MissingError
from loadtest.opensearch.node import Node
from tests.support.packages import missing, need

_numbers = itertools.count()
_initialised: set[str] = set()


def new_prefix() -> str:
    """A name for indices that no other test has."""
    return f"t{os.getpid()}x{next(_numbers)}"


def started(node: Node) -> Node:
    """The node, running; installs Maven where it may. Skips the test when something is missing."""
    need("maven", _maven)
    try:
        node.start()
    except MissingError as error:
        missing(str(error))
    return node


def _maven() -> str | None:
    from shutil import which

    return which("mvn")


def ask(url: str, method: str = "GET", body: Any = None) -> Any:
    """One request of an administrator; the decoded answer. Raises HTTPError."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=30) as response:
        text = response.read()
    return json.loads(text) if text else None


def settings(url: str, **values: Any) -> None:
    """Change or, with None, reset settings of the whole cluster."""
    ask(f"{url}/_cluster/settings", "PUT", {"transient": values})


async def initialise(url: str, prefix: str) -> None:
    """What `heiwa init opensearch` does."""
    connection = Connection(Access(url))
    try:
        await Cluster(connection, Names(prefix), 30).init()
    finally:
        await connection.close()


def documents(url: str, prefix: str) -> dict[str, dict[str, Any]]:
    """Everything in the daily indices, by `_id`; each id stands in one index only."""
    ask(f"{url}/{prefix}-*/_refresh", "POST")
    found: dict[str, dict[str, Any]] = {}
    after = None
    while True:
        body: dict[str, Any] = {
            "size": 5000,
            "sort": [{"time": "asc"}, {"account": "asc"}, {"device": "asc"}, {"id": "asc"}],
        }
        if after is not None:
            body["search_after"] = after
        path = f"{url}/{Names(prefix).days}/_search?allow_partial_search_results=false&ignore_unavailable=true"
        hits = ask(path, "POST", body)["hits"]["hits"]
        for hit in hits:
            assert hit["_id"] not in found, f"{hit['_id']} is in {hit['_index']} and another index"
            found[hit["_id"]] = hit["_source"]
        if len(hits) < 5000:
            return found
        after = hits[-1]["sort"]


def delete(url: str, prefix: str) -> None:
    """Remove all indices under a name."""
    names = [line["index"] for line in ask(f"{url}/_cat/indices/{prefix}-*?format=json&expand_wildcards=all")]
    for first in range(0, len(names), 20):
        ask(f"{url}/{','.join(names[first : first + 20])}", "DELETE")


class RefreshedIndex(OpenSearchLocationIndex):
    """Shows what was written at once, and by OpenSearch alone: nothing comes from memory."""

    async def write(self, groups: Sequence[DeviceEvents]) -> Mapping[int, Rejection]:
        rejections = await super().write(groups)
        await self._connection.request("POST", f"/{self._names.prefix}-*/_refresh")
        self._recent.add((), float("inf"))
        return rejections


class Tenants:
    """An index whose accounts are those of one test: so that tests share indices, which take long to make."""

    def __init__(self, index: OpenSearchLocationIndex) -> None:
        self._index = index
        self._tag = f"{os.getpid()}.{next(_numbers)}."

    @property
    def pace(self) -> Pace:
        return self._index.pace

    async def open(self) -> None:
        await self._index.open()

    async def close(self) -> None:
        await self._index.close()

    async def write(self, groups: Sequence[DeviceEvents]) -> Mapping[int, Rejection]:
        return await self._index.write(
            [DeviceEvents(self._tag + group.account, group.device, group.events) for group in groups]
        )

    async def search(self, account: str, query: Query) -> tuple[list[Found], bool]:
        return await self._index.search(self._tag + account, query)

    async def track(self, account: str, query: Query) -> tuple[list[Found], bool]:
        return await self._index.track(self._tag + account, query)

    async def latest(self, account: str, device: str) -> Found | None:
        return await self._index.latest(self._tag + account, device)


async def shared_index(url: str, prefix: str, *, refreshed: bool) -> Tenants:
    """An index on indices that other tests use, too."""
    if prefix not in _initialised:
        await initialise(url, prefix)
        _initialised.add(prefix)
    kind = RefreshedIndex if refreshed else OpenSearchLocationIndex
    return Tenants(kind(Access(url), prefix, SystemClock(), Random(1)))


@asynccontextmanager
async def index_on(
    url: str, *, refreshed: bool = False, clock: Clock | None = None, **access: Any
) -> AsyncIterator[OpenSearchLocationIndex]:
    """An index that is set up and open, under a name of its own; removed afterwards."""
    prefix = new_prefix()
    await initialise(url, prefix)
    kind = RefreshedIndex if refreshed else OpenSearchLocationIndex
    index = kind(Access(url, **access), prefix, clock or SystemClock(), Random(1))
    await index.open()
    try:
        yield index
    finally:
        await index.close()
        delete(url, prefix)
