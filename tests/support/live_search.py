"""A faulty way to a real OpenSearch and a stand-in Firehose, on a thread, while a test waits for a real program."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from gateway.adapters.opensearch.definitions import Names
from gateway.locations.document import index_of
from loadtest.cloud.firehose import DeliveryStream
from loadtest.cloud.firehose_endpoint import FirehoseEndpoint
from tests.support.faulty_search import FaultyProxy
from tests.support.opensearch import delete, initialise, new_prefix

T = TypeVar("T")
STREAM = "overflow"
WITHIN_S = 60.0


class LiveSearch:
    """`with` starts and ends it; the indices are removed at the end."""

    def __init__(self, node_url: str, folder: Path) -> None:
        self.node_url = node_url
        self.prefix = new_prefix()
        self.proxy = FaultyProxy(node_url)
        self.firehose = FirehoseEndpoint(node_url, folder / "failures")
        self.stream = self.firehose.firehose.add(DeliveryStream(STREAM, Names(self.prefix).overflow, interval_s=1.0))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="search")

    def __enter__(self) -> LiveSearch:
        self._thread.start()
        self._await(initialise(self.node_url, self.prefix))
        self._await(self.proxy.start())
        self._await(self.firehose.start())
        return self

    def __exit__(self, *_: object) -> None:
        self._await(self.firehose.stop())
        self._await(self.proxy.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WITHIN_S)
        self._loop.close()
        delete(self.node_url, self.prefix)

    def settings(self, *, firehose: bool = True) -> list[str]:
        """For `heiwa serve --set`."""
        found = [f"locations.opensearch_url={self.proxy.url}", f"locations.index_prefix={self.prefix}"]
        return found + ([f"locations.firehose_stream={STREAM}"] if firehose else [])

    @property
    def index_name(self) -> str:
        """The index of today."""
        return index_of(self.prefix, int(time.time() * 1000))

    def flush(self) -> None:
        """Firehose delivers all it has."""
        self._await(self.firehose.flush(WITHIN_S))

    def _await(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(WITHIN_S)
