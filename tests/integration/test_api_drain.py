"""The drain through real HTTP."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from prometheus_client.exposition import generate_latest

from gateway.adapters.receipt_files import ReceiptFiles
from gateway.api.application import build_operations
from gateway.drain.health import Membership, TargetState
from gateway.drain.leaving import Origin
from gateway.drain.metrics import DrainMetrics
from gateway.drain.receipt import Receipt, picture
from gateway.drain.target_health import TargetHealthWatch
from gateway.errors import StoreError
from gateway.telemetry.metrics import new_registry
from tests.support.api import World
from tests.support.bench import Bench, device
from tests.support.fake_target_health import PORT, TARGET, FakeTargetHealth

ADMIN = {"Authorization": "Bearer acme:op:admin"}
PATH = "/api/v1/drain"

Client = TestClient[web.Request, web.Application]


class Drained(World):
    """The API of a gateway with ten devices, healthy in its target group."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.drainer = self.bench.drainer
        health = FakeTargetHealth({f"{TARGET}:{PORT}": TargetState.HEALTHY, "10.0.0.9:80": TargetState.HEALTHY})
        self.watch = TargetHealthWatch(health, self.drainer, self.bench.hub, random.Random(1), 1)
        for number in range(10):
            self.bench.open(device(f"d{number}"))


@pytest.fixture
async def world() -> AsyncIterator[Drained]:
    made = Drained()
    await made.watch.poll()
    yield made
    await made.close()


@pytest.fixture
async def client(world: Drained) -> Client:
    return await world.client(build_operations, drainer=world.drainer, watch=world.watch)


async def get(client: Client, path: str = PATH, status: int = 200) -> dict[str, Any]:
    response = await client.get(path, headers=ADMIN)
    assert response.status == status
    found: dict[str, Any] = await response.json()
    return found


async def test_status_begin_and_cancel(client: Client, world: Drained) -> None:
    found = await get(client)
    assert (found["state"], found["connections"], found["remaining"]) == ("serving", 10, 10)
    assert (found["signal_up"], found["peers"], found["progress"]) == (True, {"healthy": 1}, None)

    response = await client.post(PATH, headers=ADMIN, json={"window_s": 60})
    assert response.status == 202
    assert (await response.json())["progress"]["window_s"] == 60
    again = await client.post(PATH, headers=ADMIN)
    assert again.status == 409
    assert "no drain can begin" in (await again.json())["detail"]

    for _ in range(32):
        world.bench.clock.advance(1)
        world.drainer.turn()
    found = await get(client)
    assert found["state"] == "draining"
    assert found["progress"]["sent_away"] == 10 - found["remaining"] > 0

    response = await client.delete(PATH, headers=ADMIN)
    assert response.status == 200
    answered = await response.json()
    assert (answered["state"], answered["receipt"]["outcome"]) == ("serving", "cancelled")
    assert (await client.delete(PATH, headers=ADMIN)).status == 409
    shown = await client.get(f"{PATH}/receipt.svg", headers=ADMIN)
    assert shown.content_type == "image/svg+xml"
    assert (await shown.text()).startswith("<svg")


async def test_plan(client: Client) -> None:
    found = await get(client, f"{PATH}/plan?tasks=8&window_s=60")
    assert (found["connections"], found["tasks"], found["window_s"]) == (80, 8, 60)
    assert 2 <= found["peak_reconnects_per_s"] <= 10
    assert (await get(client, f"{PATH}/plan"))["window_s"] == 300 - 15 - 6


async def test_a_strategy_is_planned(client: Client) -> None:
    found = await get(client, f"{PATH}/strategy?strategy=canary:5%25:10m&tasks=8")
    assert (found["strategy"], found["connections"], found["tasks"]) == ("CANARY", 80, 8)
    assert [step["weight"] for step in found["steps"]] == [0.05, 1.0]
    assert (await get(client, f"{PATH}/strategy"))["strategy"] == "LINEAR"
    for wrong in ("rolling", "%20canary", "linear:101%25"):
        problem = await get(client, f"{PATH}/strategy?strategy={wrong}", 400)
        assert problem["errors"][0]["field"] == "strategy"
        assert problem["detail"].count("strategy") == 1


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("tasks=0", "tasks"),
        ("tasks=65", "tasks"),
        ("tasks=x", "tasks"),
        ("tasks=1.5", "tasks"),
        ("window_s=0", "window_s"),
        ("window_s=nan", "window_s"),
        ("window_s=1_0", "window_s"),
        ("window_s=inf", "window_s"),
        ("window_s=%EF%BC%91%EF%BC%90", "window_s"),
        ("tasks=%EF%BC%92", "tasks"),
        ("tasks=1_0", "tasks"),
        ("windows=5", "windows"),
        ("tasks=2&window_s=86400", "window_s"),
    ],
)
async def test_a_bad_plan_names_the_parameter(client: Client, query: str, name: str) -> None:
    problem = await get(client, f"{PATH}/plan?{query}", 400)
    assert problem["errors"][0]["field"] == name


@pytest.mark.parametrize("body", ['{"window_s":0}', '{"window_s":"1"}', '{"windows":1}', '{"window_s":1e9}'])
async def test_a_bad_wish_changes_nothing(client: Client, world: Drained, body: str) -> None:
    headers = {**ADMIN, "Content-Type": "application/json"}
    assert (await client.post(PATH, headers=headers, data=body)).status == 422
    assert not world.drainer.refusing


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_only_an_operator_may(client: Client, method: str) -> None:
    assert (await client.request(method, PATH)).status == 401
    reader = {"Authorization": "Bearer acme:d:device:read+metrics:read"}
    assert (await client.request(method, PATH, headers=reader)).status == 403


async def test_without_a_target_group_there_is_no_signal(world: Drained) -> None:
    health = FakeTargetHealth()
    health.member = Membership(TARGET, {})
    watch = TargetHealthWatch(health, world.drainer, world.bench.hub, random.Random(1), 1)
    client = await world.client(build_operations, drainer=world.drainer, watch=watch)
    assert (await get(client))["signal_up"] is False
    await watch.poll()
    assert (await get(client))["signal_up"] is None


async def test_no_receipt_yet(client: Client) -> None:
    assert (await client.get(f"{PATH}/receipt.svg", headers=ADMIN)).status == 404


async def test_metrics(world: Drained) -> None:
    registry = new_registry(DrainMetrics(world.drainer, world.watch))
    world.drainer.order(Origin.API, 100)
    text = generate_latest(registry).decode()
    for line in (
        'heiwa_drain_state{state="drain_pending"} 1.0',
        "heiwa_drain_connections_remaining 10.0",
        "heiwa_drain_deadline_seconds 100.0",
        "heiwa_drain_signal_up 1.0",
        'heiwa_drain_peers{state="healthy"} 1.0',
        "heiwa_drain_poll_age_seconds 0.0",
    ):
        assert line in text


def receipt(began_ms: int = 1_800_000_000_000) -> Receipt:
    return Receipt("api", "drained", began_ms, 10.0, 10.0, 20, 20, 0, 0, 2.0, 3, 1.0, [2, 3, 2, 1], {"drain": 20})


def test_receipts_are_files_and_old_ones_go(tmp_path: Path) -> None:
    files = ReceiptFiles(tmp_path)
    for number in range(25):
        files.keep(receipt(1_800_000_000_000 + number * 1000))
    kept = sorted(tmp_path.glob("drain-receipt-*.json"))
    assert len(kept) == len(list(tmp_path.glob("*.svg"))) == 20
    assert json.loads(kept[-1].read_text())["began_ms"] == 1_800_000_024_000
    assert "20 of 20 sent away" in (tmp_path / kept[-1].name.replace(".json", ".svg")).read_text()


def test_a_receipt_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be written"):
        ReceiptFiles(tmp_path / "missing").keep(receipt())


def test_a_picture_of_nothing_and_of_a_long_drain() -> None:
    import xml.etree.ElementTree as ElementTree

    for closes in ([], [0], [5] * 600):
        drawn = picture(Receipt("api", "drained", 0, 1.0, 0.0, 0, 0, 0, 0, 0.0, 0, 6.0, closes))
        assert ElementTree.fromstring(drawn).tag.endswith("svg")
