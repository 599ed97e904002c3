"""Odd requests on a whole gateway: whatever is asked, the answer is one that the OpenAPI document announces."""

import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from aiohttp import ClientSession
from yarl import URL

from gateway.adapters.clock import SystemClock
from gateway.api.application import all_routes
from gateway.api.operation import Listener, Operation
from gateway.app.gateway import Gateway
from gateway.identity.minting import Minter
from gateway.settings.load import load

REQUESTS = 600
TEXTS = [
    "", "0", "1", "-1", "1e400", "nan", "inf", "1,2", "1,2,3,4", "180,90,-180,-90", "-180,-90,180,90",
    "0,0,0,0", "9" * 400, "2026-11-22T10:00:00Z", "2026-11-22T10:00:00", "W10", "WzEsImEiLCJiIl0", "ZGE",
    "\x00", "\ud7ff", "é", "𝕏", "a/b", "%", "..", "null", "true", "[]", "{}", "'; --",
]  # fmt: skip
VALUES: list[Any] = [
    None, True, 0, -1, 1.5, 1e308, 2**63, 2**70, "", "x", "\x00", [], [[]], {}, {"type": "Polygon"},
    {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]},
    {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, "1"], [0, 0]]]},
    {"type": "MultiPolygon", "coordinates": [[[]]]}, {"type": "Polygon", "coordinates": [[[181, 0]] * 4]},
]  # fmt: skip
BODIES = [b"", b"{", b"\xff\xfe", b"[" * 5000, b'{"a":' * 5000, b"\x00" * 10, b'"\\ud800"', b"1" * 5000]


def body(chance: random.Random) -> bytes:
    if chance.random() < 0.3:
        return chance.choice(BODIES)
    names = ["events", "type", "polygon", "code", "reason", "coordinates", "extra"]
    made = {name: chance.choice(VALUES) for name in chance.sample(names, chance.randint(0, 3))}
    if chance.random() < 0.5:
        fields = ["id", "time", "lat", "lon", "accuracy", "attributes"]
        made["events"] = [{name: chance.choice(VALUES) for name in fields} for _ in range(chance.randint(0, 3))]
    return json.dumps(made).encode()


def url(chance: random.Random, base: str, operation: Operation) -> URL:
    path = operation.path.replace("{device}", quote(chance.choice(TEXTS) or "x", safe=""))
    names = [parameter.name for parameter in operation.parameters] + ["unknown"]
    chosen = chance.choices(names, k=chance.choice([0, 1, 1, 2, 3]))
    query = "&".join(f"{name}={quote(chance.choice(TEXTS), safe='')}" for name in chosen)
    return URL(f"{base}{path}?{query}", encoded=True)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    flags = [
        f"data.folder={tmp_path}",
        "listen.public=127.0.0.1:0",
        "listen.operations=127.0.0.1:0",
        "listen.jobs=127.0.0.1:0",
    ]
    made = Gateway(load(None, {}, flags).settings)
    await made.start()
    yield made
    await made.stop()


async def test_every_answer_is_an_announced_one(gateway: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    now_s = SystemClock().time_ms() / 1000
    token = Minter(gateway.settings).mint("d", "acme", "admin", "", now_s, 600).token
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    operations = [route.operation for route in all_routes()]
    async with ClientSession(headers=headers) as session:
        for _ in range(REQUESTS):
            operation = chance.choice(operations)
            listener = {Listener.PUBLIC: "public", Listener.JOBS: "jobs"}.get(operation.listener, "operations")
            target = url(chance, f"http://{gateway.addresses[listener][0]}", operation)
            payload = body(chance) if operation.method == "POST" else None
            async with session.request(operation.method, target, data=payload) as response:
                told = await response.read()
                said = f"{operation.method} {target} {payload!r} -> {response.status} {told!r}"
                assert response.status in operation.statuses, said
                # A wish for a drain among the requests makes it leave: only then is it not ready.
                leaving = operation.path == "/readyz" and gateway.drainer.refusing
                assert response.status < 500 or leaving, said
                problem = response.content_type == "application/problem+json"
                assert problem == (response.status >= 400), said
                if problem:
                    assert json.loads(told)["detail"], said
    assert "request_failed" not in caplog.text


async def test_a_token_in_the_wrong_place_is_not_quoted(gateway: Gateway) -> None:
    token = Minter(gateway.settings).mint("d", "acme", "admin", "", SystemClock().time_ms() / 1000, 600).token
    base = f"http://{gateway.addresses['operations'][0]}/api/v1"
    async with ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
        for wrong in ("locations/search?near=", "locations/search?bbox=", "drain/plan?strategy=", "devices?limit="):
            async with session.get(f"{base}/{wrong}{token}") as response:
                said = await response.text()
            assert response.status == 400, wrong
            assert token[:20] not in said, said
