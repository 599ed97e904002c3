"""Least privilege with shared data: what is asked of OpenSearch and Firehose, against the task role."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.adapters.opensearch.definitions import Names
from loadtest.cloud.firehose import DeliveryStream
from loadtest.cloud.firehose_endpoint import FirehoseEndpoint
from loadtest.opensearch.node import Node
from tests.acceptance.test_permissions import allowed
from tests.support.faulty_search import FaultyProxy
from tests.support.opensearch import new_prefix
from tests.support.program import Program, location, receive, send

BASE = {"application-autoscaling", "ecs", "elasticloadbalancing"}


@contextmanager
def answering(proxy: FaultyProxy, firehose: FirehoseEndpoint) -> Iterator[None]:
    """Both listen, on a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="stand-ins")
    thread.start()

    async def open_both() -> None:
        await proxy.start()
        await firehose.start()

    async def close_both() -> None:
        await proxy.close()
        await firehose.stop()

    try:
        asyncio.run_coroutine_threadsafe(open_both(), loop).result(30)
        yield
    finally:
        asyncio.run_coroutine_threadsafe(close_both(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(20)
        loop.close()


def test_the_index_and_the_stream_are_asked_for_what_the_role_allows(
    opensearch: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, firehose = FaultyProxy(opensearch.url), FirehoseEndpoint(opensearch.url, tmp_path)
    with answering(proxy, firehose):
        prefix = new_prefix()
        firehose.firehose.add(DeliveryStream("overflow", Names(prefix).overflow))
        for name, value in firehose.environment.items():
            monkeypatch.setenv(name, value)
        settings = (
            f"locations.opensearch_url={proxy.url}",
            "locations.opensearch_sign_region=eu-west-1",
            f"locations.index_prefix={prefix}",
            "locations.firehose_stream=overflow",
        )
        options = [word for setting in settings for word in ("--set", setting)]
        for command in ("init", "opensearch"), ("check",):
            subprocess.run(
                [sys.executable, "-m", "gateway", *command, *options], capture_output=True, timeout=60, check=False
            )
        with Program(tmp_path / "data", *settings) as program:
            with program.connect("dog-1") as connection:
                send(connection, location("one"))
                assert receive(connection, "ack", 30)["ids"] == ["one"]
                assert program.get("/api/v1/locations/search?device=dog-1&bbox=-180,-90,180,90")["events"]
                proxy.mode = "429"
                send(connection, location("two"))
                assert receive(connection, "ack", 30)["durability"] == "firehose"
            assert program.terminate() == 0
    asked = {f"es:ESHttp{method.title()}" for method in proxy.methods}
    asked |= {f"firehose:{action}" for action in firehose.requests}
    assert asked == {action for action in allowed("data") if action.partition(":")[0] not in BASE}
