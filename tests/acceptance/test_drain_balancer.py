"""The whole program beside a load balancer that lists it, loses it, hangs, or cannot be asked at all."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection

from gateway.adapters.aws.clients import READ_TIMEOUT_S
from gateway.cli.remote import Remote, RemoteDrain
from gateway.drain.window import EMERGENCY_S, QUICK_S
from tests.support.live_cloud import LiveCloud
from tests.support.program import Program, eventually, receive

# Simulated seconds in a real one: a delay of five minutes passes in five seconds, and polls come twelve times a second.
SPEED = 60.0
SETTINGS = (f"drain.speed={SPEED:g}", "connections.close_timeout_s=0.1", "connections.flap_limit=0")
DEVICES = 8
GOING_AWAY = 1001


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveCloud]:
    with LiveCloud(monkeypatch, SPEED) as made:
        made.serve("10.0.0.2")
        yield made


class Gateway:
    """A program, and what its operators see of it."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.remote = RemoteDrain(Remote(program.operations, lambda: program.token("operator", "admin")))

    @property
    def state(self) -> str:
        return str(self.remote.status()["state"])

    @property
    def signal_up(self) -> bool:
        return self.program.metrics()["heiwa_drain_signal_up"] == 1

    def errors(self, kind: str) -> float:
        return self.program.metrics().get(f'heiwa_drain_poll_errors_total{{class="{kind}"}}', 0)

    def becomes(self, *states: str) -> None:
        eventually(lambda: self.state in states, what=f"it did not become {states}")

    def stays(self, state: str, cloud: LiveCloud, polls: int = 4) -> None:
        """It is in this state after so many more polls."""
        asked = cloud.polls + polls
        eventually(lambda: cloud.polls >= asked, what="it does not poll")
        assert self.state == state

    def receipts(self, count: int) -> list[dict[str, Any]]:
        """All so far, oldest first, once there are so many."""
        found: list[Path] = []

        def enough() -> bool:
            found[:] = sorted(self.program.folder.glob("drain-receipt-*.svg"))
            return len(found) >= count

        eventually(enough, what="no receipt")
        return [json.loads(path.with_suffix(".json").read_text()) for path in found]


@contextmanager
def serving(folder: Path, *settings: str, state: str = "serving") -> Iterator[Gateway]:
    with Program(folder / "data", *SETTINGS, *settings) as program:
        gateway = Gateway(program)
        gateway.becomes(state)
        yield gateway


@contextmanager
def devices(gateway: Gateway, count: int = DEVICES) -> Iterator[list[ClientConnection]]:
    with ExitStack() as stack:
        yield [stack.enter_context(gateway.program.connect(f"dev-{number}")) for number in range(count)]


def closed(connections: list[ClientConnection]) -> list[int]:
    """The close codes of those that are closed."""
    return [connection.close_code for connection in connections if connection.close_code is not None]


def lose_credentials(cloud: LiveCloud) -> None:
    cloud.fail(elbv2="ExpiredToken", ecs="ExpiredToken")


def lose_permission(cloud: LiveCloud) -> None:
    cloud.fail(elbv2="AccessDenied", ecs="AccessDenied")


LOSSES = [(lose_credentials, "expired"), (lose_permission, "denied"), (LiveCloud.vanish, "unreachable")]


@pytest.mark.parametrize(("lose", "kind"), LOSSES)
def test_what_is_lost_before_a_drain_leaves_the_api(
    cloud: LiveCloud, tmp_path: Path, lose: Callable[[LiveCloud], None], kind: str
) -> None:
    cloud.serve()
    with serving(tmp_path) as gateway, devices(gateway) as connections:
        assert gateway.signal_up
        lose(cloud)
        eventually(lambda: gateway.errors(kind) > 0 and not gateway.signal_up, what="the loss is not seen")
        cloud.deregister()
        # Errors drain nobody: the next one finds it as it was.
        errors = gateway.errors(kind)
        eventually(lambda: gateway.errors(kind) > errors, what="it does not ask again")
        assert (gateway.state, closed(connections)) == ("serving", [])
        gateway.remote.start(window_s=60)
        gateway.becomes("drained")
        assert closed(connections) == [GOING_AWAY] * DEVICES
        assert gateway.receipts(1)[0]["origin"] == "api"


def test_what_is_lost_during_a_drain_is_finished_and_healed(cloud: LiveCloud, tmp_path: Path) -> None:
    cloud.serve()
    with serving(tmp_path) as gateway, devices(gateway) as connections:
        cloud.deregister()
        gateway.becomes("draining")
        lose_credentials(cloud)
        gateway.becomes("drained")
        assert closed(connections) == [GOING_AWAY] * DEVICES
        assert not gateway.signal_up
        [receipt] = gateway.receipts(1)
        assert (receipt["origin"], receipt["outcome"], receipt["sent_away"]) == ("target_health", "drained", DEVICES)
        # Spread over the window as if nothing had happened.
        assert receipt["took_s"] > 0.7 * receipt["window_s"] > 100
        cloud.fail()
        cloud.serve()
        gateway.becomes("serving")
        assert gateway.signal_up


def test_a_load_balancer_that_is_out_of_reach_from_the_start(cloud: LiveCloud, tmp_path: Path) -> None:
    cloud.vanish()
    with serving(tmp_path, state="registering") as gateway, devices(gateway) as connections:
        eventually(lambda: gateway.errors("unreachable") > 1, what="it does not ask again")
        assert gateway.program.terminate() == 0
        assert [receive(connection, "goaway")["reason"] for connection in connections] == ["shutdown"] * DEVICES
        assert gateway.receipts(1)[0]["outcome"] == "terminated"


def test_it_is_found_once_it_can_be_asked(cloud: LiveCloud, tmp_path: Path) -> None:
    cloud.serve()
    cloud.vanish()
    with serving(tmp_path, state="registering") as gateway:
        eventually(lambda: gateway.errors("unreachable") > 1, what="it does not ask again")
        cloud.reach()
        gateway.becomes("serving")
        cloud.deregister()
        gateway.becomes("draining", "drained")


@pytest.mark.parametrize(("service", "known"), [("elbv2", True), ("elbv2", False), ("ecs", False)])
def test_sigterm_waits_a_second_for_an_endpoint_that_hangs(
    cloud: LiveCloud, tmp_path: Path, service: str, known: bool
) -> None:
    cloud.serve()
    if not known:
        cloud.fail(**{service: "hang"})
    with serving(tmp_path, state="serving" if known else "registering") as gateway, devices(gateway, 2) as connections:
        cloud.fail(**{service: "hang"})
        began_s = time.monotonic()
        gateway.program.process.send_signal(signal.SIGTERM)
        for connection in connections:
            assert receive(connection, "goaway")["reason"] == "shutdown"
        # The rest goes within five seconds, simulated, after the quick poll. A busy machine may take a moment more; any
        # other time-out of a call is longer.
        assert time.monotonic() - began_s < QUICK_S + EMERGENCY_S / SPEED + 1.5 < READ_TIMEOUT_S
        assert gateway.program.process.wait(20) == 0


def test_a_newborn_on_a_used_address_serves(cloud: LiveCloud, tmp_path: Path) -> None:
    cloud.serve()
    cloud.deregister()
    with serving(tmp_path, state="registering") as gateway, devices(gateway) as connections:
        gateway.stays("registering", cloud)
        assert closed(connections) == []
        cloud.serve()
        gateway.becomes("serving")
        cloud.deregister()
        gateway.becomes("draining")


def test_a_reversal_in_the_middle_keeps_the_rest(cloud: LiveCloud, tmp_path: Path) -> None:
    cloud.serve()
    with serving(tmp_path) as gateway, devices(gateway) as connections:
        cloud.deregister()
        eventually(lambda: len(closed(connections)) > 1, what="nobody is sent away")
        cloud.serve()
        gateway.becomes("serving")
        gone = len(closed(connections))
        assert gone < DEVICES
        gateway.stays("serving", cloud)
        assert len(closed(connections)) == gone
        [receipt] = gateway.receipts(1)
        assert (receipt["outcome"], receipt["sent_away"]) == ("cancelled", gone)
        # The next drain is one of its own.
        cloud.deregister()
        gateway.becomes("drained")
        assert [receipt["outcome"] for receipt in gateway.receipts(2)] == ["cancelled", "drained"]


def test_a_healthy_target_does_not_take_back_what_a_person_began(cloud: LiveCloud, tmp_path: Path) -> None:
    cloud.serve()
    with serving(tmp_path) as gateway, devices(gateway) as connections:
        gateway.remote.start(window_s=240)
        gateway.becomes("draining")
        gateway.stays("draining", cloud)
        gateway.becomes("drained")
        gateway.stays("drained", cloud)
        assert closed(connections) == [GOING_AWAY] * DEVICES
        gateway.remote.cancel()
        gateway.stays("serving", cloud)


def test_a_balancer_that_joins_a_persons_drain_shortens_it(cloud: LiveCloud, tmp_path: Path) -> None:
    cloud.serve()
    with serving(tmp_path) as gateway, devices(gateway) as connections:
        gateway.remote.start(window_s=3600)
        gateway.becomes("draining")
        cloud.deregister()
        gateway.becomes("drained")
        assert closed(connections) == [GOING_AWAY] * DEVICES
        assert gateway.receipts(1)[0]["took_s"] < 400


def test_what_a_person_took_back_stays_so_while_the_target_drains(cloud: LiveCloud, tmp_path: Path) -> None:
    cloud.serve()
    with serving(tmp_path) as gateway, devices(gateway) as connections:
        cloud.deregister()
        gateway.becomes("draining")
        gateway.remote.cancel()
        gone = len(closed(connections))
        gateway.stays("serving", cloud)
        assert len(closed(connections)) <= gone + 1
        cloud.serve()
        gateway.stays("serving", cloud)
        cloud.deregister()
        gateway.becomes("draining", "drained")
