"""Devices through real proxies, each with the configuration that its page in the documentation shows."""

from __future__ import annotations

import contextlib
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.acceptance.test_drain import heiwa_drain
from tests.support.program import Program, eventually, location, receive, send
from tests.support.proxies import KINDS, Kind, Proxy

# The proxy is 127.0.0.1, whom the gateways trust; devices come from elsewhere.
DEVICE_ADDRESS = "127.0.0.9"
WITHIN_S = 20


class Site:
    """Two gateways behind a proxy."""

    def __init__(self, kind: Kind, folder: Path, stack: contextlib.ExitStack) -> None:
        folders = [folder / "data-1", folder / "data-2"]
        for one in folders:
            one.mkdir(mode=0o700)
            key = one / "key"
            key.touch(mode=0o600)
            key.write_text("k" * 64)  # of both, so that a token is good for both
        settings = ("listen.trusted_proxies=127.0.0.1/32", *kind.settings)
        self.gateways = [stack.enter_context(Program(one, *settings)) for one in folders]
        self.proxy = stack.enter_context(Proxy(kind, folder, [gateway.public_port for gateway in self.gateways]))

    @contextlib.contextmanager
    def device(self, name: str, **headers: str) -> Iterator[ClientConnection]:
        """A device that is connected through the proxy."""
        url = f"ws://127.0.0.1:{self.proxy.port}/ws"
        fields = {"Authorization": f"Bearer {self.gateways[0].token(name)}", **headers}
        with connect(
            url,
            subprotocols=[Subprotocol("heiwa.v1.json")],
            additional_headers=fields,
            source_address=(DEVICE_ADDRESS, 0),
            proxy=None,
        ) as connection:
            send(connection, location(f"{name}-1"))
            assert receive(connection, "ack", WITHIN_S)["ids"] == [f"{name}-1"]
            yield connection

    def holder(self, name: str) -> tuple[Program, dict[str, Any]]:
        """The gateway that holds a device's connection, and what it knows of that."""
        for gateway in self.gateways:
            found = gateway.get("/api/v1/devices?limit=1000")["devices"]
            for one in found:
                if one["device"] == name:
                    return gateway, one
        raise AssertionError(f"no gateway holds {name}")


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(scope="module")
def site(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The same for all tests of a kind; the last of them drains one of its gateways."""
    with contextlib.ExitStack() as stack:
        yield Site(kind, tmp_path_factory.mktemp("site"), stack)


def test_the_address_of_a_device_is_its_own_whatever_it_says(site: Site) -> None:
    with site.device("honest"), site.device("liar", **{"X-Forwarded-For": "203.0.113.7", "Forwarded": "for=1.2.3.4"}):
        for name in ("honest", "liar"):
            assert site.holder(name)[1]["address"] == DEVICE_ADDRESS


def test_a_websocket_may_come_after_plain_requests(site: Site) -> None:
    for _ in range(5):
        with urllib.request.urlopen(f"http://127.0.0.1:{site.proxy.port}/livez", timeout=WITHIN_S) as answer:
            assert answer.status == 200
    for number in range(5):
        with site.device(f"dev-{number}"):
            pass


def test_what_a_reload_does_to_devices(site: Site, kind: Kind) -> None:
    with contextlib.suppress(ConnectionClosed), site.device("old") as old:
        site.proxy.reload()
        eventually(lambda: _answers(site, 1), WITHIN_S, "nobody can connect after the reload")
        with site.device("new"):
            pass
        if kind.keeps:
            send(old, location("old-2"))
            assert receive(old, "ack", WITHIN_S)["ids"] == ["old-2"]
        else:
            with pytest.raises(ConnectionClosed) as caught:
                old.recv(WITHIN_S)
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.code == 1001


def test_a_draining_gateway_is_passed_over_and_keeps_its_devices(site: Site) -> None:
    with site.device("staying") as staying:
        leaving, _ = site.holder("staying")
        assert heiwa_drain(leaving, "start", "--window", "600").returncode == 0
        eventually(lambda: _answers(site, 8), WITHIN_S, "new devices are still refused")
        with contextlib.ExitStack() as stack:
            for number in range(8):
                stack.enter_context(site.device(f"new-{number}"))
                assert site.holder(f"new-{number}")[0] is not leaving
        send(staying, location("staying-2"))
        assert receive(staying, "ack", WITHIN_S)["ids"] == ["staying-2"]


def _answers(site: Site, times: int) -> bool:
    """Whether so many devices can be connected at once: more than the gateway that is to be passed over holds."""
    try:
        with contextlib.ExitStack() as stack:
            for number in range(times):
                stack.enter_context(site.device(f"try-{number}"))
    except Exception as error:
        print(error)
        return False
    return True
