"""What a deploy relies on in HAProxy: which states end websockets and which do not, and how its errors look."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

from gateway.errors import SettingsError
from loadtest.cloud import fronts, haproxy
from loadtest.cloud.fronts import HaproxyFront
from loadtest.cloud.haproxy import Haproxy, HaproxyError
from loadtest.scenario.deploy import DeploySection
from tests.support.packages import need

WITHIN_S = 10


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    need("haproxy", haproxy.find)
    # Longer than the name of a unix socket may be.
    made = tmp_path / ("a-run-with-a-long-name-" * 5)
    made.mkdir()
    return made


@pytest.fixture
async def proxy(folder: Path) -> AsyncIterator[Haproxy]:
    made = Haproxy(folder)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def gateways() -> AsyncIterator[list[str]]:
    """The URLs of two servers that greet with their own URL and the address they were told of."""

    async def greet(connection: ServerConnection) -> None:
        assert connection.request is not None
        port = connection.local_address[1]
        await connection.send(f"ws://127.0.0.1:{port}/ws {connection.request.headers['X-Forwarded-For']}")
        await connection.wait_closed()

    async with AsyncExitStack() as stack:
        servers: list[Server] = [await stack.enter_async_context(serve(greet, "127.0.0.1", 0)) for _ in range(2)]
        yield [f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws" for server in servers]


async def opened(front: HaproxyFront) -> tuple[ClientConnection, str]:
    """A websocket through HAProxy, and the gateway it went to."""
    connection = await connect(front.urls([])[0], proxy=None, local_addr=("127.0.0.9", 0))
    async with asyncio.timeout(WITHIN_S):
        gateway, _, address = str(await connection.recv()).partition(" ")
    assert address == "127.0.0.9"
    return connection, gateway


async def alive(connection: ClientConnection) -> None:
    async with asyncio.timeout(WITHIN_S):
        await (await connection.ping())


async def test_a_target_that_leaves_keeps_its_websockets_until_it_is_cut(proxy: Haproxy, gateways: list[str]) -> None:
    front = HaproxyFront(proxy)
    first, second = gateways
    await front.aim([first])
    staying, gateway = await opened(front)
    assert gateway == first
    await front.aim([second])
    for _ in range(3):
        connection, gateway = await opened(front)
        assert gateway == second
        await connection.close()
    await alive(staying)
    await front.cut(first)
    async with asyncio.timeout(WITHIN_S):
        with pytest.raises(ConnectionClosed) as caught:
            await staying.recv()
    assert caught.value.rcvd is None
    # A target that comes back gets traffic again.
    await front.aim([first])
    connection, gateway = await opened(front)
    assert gateway == first
    await connection.close()


async def test_round_robin_and_503_without_a_target(proxy: Haproxy, gateways: list[str]) -> None:
    front = HaproxyFront(proxy)
    await front.aim([])
    with pytest.raises(InvalidStatus) as caught:
        await opened(front)
    assert caught.value.response.status_code == 503
    await front.aim(gateways)
    found = [await opened(front) for _ in range(4)]
    assert sorted(gateway for _, gateway in found) == sorted(gateways * 2)
    statistics = await proxy.statistics()
    assert {line["scur"] for line in statistics.values()} == {"2"}
    for connection, _ in found:
        await connection.close()


async def test_the_last_of_several_orders_counts(proxy: Haproxy, gateways: list[str]) -> None:
    front = HaproxyFront(proxy)
    orders = [gateways, gateways[:1], [], gateways[1:], gateways, gateways[1:]]
    await asyncio.gather(*(front.aim(order) for order in orders))
    connection, gateway = await opened(front)
    assert gateway == gateways[1]
    await connection.close()


async def test_what_it_does_not_do_is_said(proxy: Haproxy) -> None:
    with pytest.raises(HaproxyError, match="No such server"):
        await proxy.set_state("nobody", "ready")
    await proxy.add("one", "127.0.0.1", 1)
    with pytest.raises(HaproxyError, match="same name"):
        await proxy.add("one", "127.0.0.1", 1)
    with pytest.raises(SettingsError, match="TLS"):
        await HaproxyFront(proxy).aim(["wss://127.0.0.1:1/ws"])
    await proxy.stop()
    with pytest.raises(HaproxyError, match="ended with exit code"):
        await proxy.set_state("one", "ready")


async def test_a_configuration_it_refuses_is_shown(folder: Path) -> None:
    proxy = Haproxy(folder, "by-luck")  # type: ignore[arg-type]
    with pytest.raises(HaproxyError, match=r"(?s)exit code 1: .*balance only supports"):
        await proxy.start()


def test_too_many_devices_and_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    need("haproxy", haproxy.find)
    options = DeploySection(balancer="haproxy")
    fronts.check(options, 9000, 20_000)
    for devices, files in ((9001, 1_000_000), (500, 1024)):
        with pytest.raises(SettingsError, match="two files of one process"):
            fronts.check(options, devices, files)
    monkeypatch.setattr(haproxy, "find", lambda: None)
    with pytest.raises(SettingsError, match="apt-get install haproxy"):
        fronts.check(options, 10, 20_000)
    fronts.check(DeploySection(), 1_000_000, 20_000)
    fronts.check(None, 1_000_000, 20_000)
