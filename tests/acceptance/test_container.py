"""The image as podman and runc run it: started, used, stopped, killed, and held short. `make image` builds it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from gateway import __version__
from gateway.identity.token import mint
from tests.support.containers import BASE, LIMITS, NARROW, PODMAN, Container, build, image, once, podman
from tests.support.deploys import deploy
from tests.support.process import ROOT
from tests.support.program import eventually, location, receive, send

# The image is built by the first of them.
pytestmark = pytest.mark.timeout(900)
SECRET = "a-secret-that-all-tasks-of-a-test-share-0123456789"
KEY = {"HEIWA_AUTH__SECRET": SECRET}
MIB = 1 << 20


def token(subject: str, scope: str = "location:write") -> str:
    claims = {"sub": subject, "account": "default", "scope": scope, "exp": time.time() + 3600}
    return mint(claims, SECRET.encode())


@contextmanager
def device(container: Container, name: str) -> Iterator[ClientConnection]:
    with connect(
        container.url,
        subprotocols=["heiwa.v1.json"],  # type: ignore[list-item]
        additional_headers={"Authorization": f"Bearer {token(name)}"},
        proxy=None,
        compression=None,
        ping_interval=None,
    ) as connection:
        assert receive(connection)["type"] == "welcome"
        yield connection


def sent(connection: ClientConnection, *names: str) -> None:
    """Send events, and wait until each is acknowledged."""
    for name in names:
        send(connection, location(name))
    acked: set[str] = set()
    while acked < set(names):
        acked.update(receive(connection, "ack")["ids"])


def found(container: Container) -> set[str]:
    """The ids of all events that a search finds."""
    request = urllib.request.Request(f"{container.operations}/api/v1/locations/search?bbox=-180,-90,180,90&limit=1000")
    request.add_header("Authorization", f"Bearer {token('me', 'location:read')}")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return {event["id"] for event in json.load(answer)["events"]}


def metric(container: Container, name: str) -> float:
    with urllib.request.urlopen(f"{container.operations}/metrics", timeout=30) as answer:
        return float(re.search(rf"^{name} (\S+)$", answer.read().decode(), re.MULTILINE)[1])  # type: ignore[index]


@pytest.fixture
def volume() -> Iterator[str]:
    image()  # podman is there then
    name = f"heiwa-test-{os.getpid()}"
    podman("volume", "create", name)
    yield name
    podman("volume", "rm", "--force", name, check=False)


def test_nothing_acknowledged_is_lost_in_a_kill_and_in_a_stop(volume: str) -> None:
    options = (*NARROW, "--volume", f"{volume}:/data")
    with Container("killed", *options, environment=KEY) as first, device(first, "dog-1") as connection:
        sent(connection, *(f"before-{number}" for number in range(20)))
        podman("kill", "--signal", "KILL", first.name)
        eventually(lambda: not first.running, what="it did not end")
        assert first.exit_code == 137
    with Container("killed", *options, environment=KEY) as second, device(second, "dog-1") as connection:
        assert len(found(second)) == 20
        sent(connection, "after")
        assert second.stop() == 0
        assert json.loads(connection.recv(5))["type"] == "goaway"
        with pytest.raises(ConnectionClosed) as closed:
            connection.recv(5)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        events = [event["event"] for event in second.events()]
        assert events[-1] == "stopped"
        assert "data_not_kept" not in events
    with Container("killed", *options, environment=KEY) as third:
        assert len(found(third)) == 21


def test_a_second_container_on_a_volume_is_refused(volume: str) -> None:
    options = (*NARROW, "--volume", f"{volume}:/data")
    with Container("holder", *options, environment=KEY):
        other = once("serve", options=options)
    assert other.returncode == 1
    assert "one folder belongs to one process" in other.stderr


def test_it_is_ready_soon_and_can_do_little() -> None:
    image()
    with Container("narrow", *NARROW, "--init", "--memory", "256m", environment=KEY) as container:
        began_s = _began_s(container)
        ready = next(event for event in container.events() if event["event"] == "ready")
        print(f"ready {_seconds(ready['time']) - began_s:.2f} s after its start; {_resident_bytes(container)} bytes")
        assert _resident_bytes(container) < 51 * MIB
        table = container.run("heiwa", "check", check=False)
        assert re.search(r"^ok +memory +256 MiB by cgroup", table, re.MULTILINE)
        # One that no volume is named for.
        assert re.search(r"^warning +data.folder +the index, .* are lost with the container", table, re.MULTILINE)
        (warned,) = [event for event in container.events() if event["event"] == "data_not_kept"]
        assert "volume" in warned["mend"]
        eventually(lambda: 0 < metric(container, "heiwa_memory_share") < 0.5)
        status = _status(container)
        assert (status["Uid"].split()[0], status["CapEff"], status["NoNewPrivs"]) == ("10001", "0" * 16, "1")
        assert "Read-only" in _refused(container, "touch", "/opt/heiwa/x")
        assert "Read-only" in _refused(container, "touch", "/tmp/x")
        assert "No module named pip" in _refused(container, "python3", "-m", "pip")
        assert container.run("stat", "-c", "%a %u %g", "/data").split() == ["700", "10001", "10001"]
        container.run("python3", "/usr/share/heiwa/healthcheck.py")
        _leave_an_orphan(container)
        assert container.stop() == 0


def _began_s(container: Container) -> float:
    text = container.state()["StartedAt"]
    return _seconds(re.sub(r"(\.\d{3})\d*", r"\1", text))


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _gateway_pid(container: Container) -> int:
    """Its pid on this machine, below an init process."""
    children = Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text().split()
    return int(children[0]) if children else container.pid


def _status(container: Container) -> dict[str, str]:
    lines = Path(f"/proc/{_gateway_pid(container)}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _resident_bytes(container: Container) -> int:
    return int(_status(container)["VmRSS"].split()[0]) * 1024


def _refused(container: Container, *command: str) -> str:
    done = podman("exec", container.name, *command, check=False)
    assert done.returncode != 0
    return done.stderr


def _leave_an_orphan(container: Container) -> None:
    """A process whose parent has gone ends; process 1 reaps it."""
    container.run("sh", "-c", "(sleep 0.1 &) ; exit 0")
    eventually(lambda: "sleep" not in podman("top", container.name, "args").stdout, what="a zombie is left")


def test_a_signal_before_there_is_a_handler_ends_it() -> None:
    """As process 1 it would not see it, and be killed when the stop time-out is over."""
    image()
    container = Container("early", environment=KEY)
    try:
        starting = subprocess.Popen(
            [*PODMAN, "run", "--detach", *container.arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        pid = _as_soon_as_it_runs()
        os.kill(pid, signal.SIGTERM)
        assert starting.wait(60) == 0
        eventually(lambda: not container.running, what="the signal was lost")
        assert container.exit_code == 0
        assert "stopped" in [event["event"] for event in container.events()]
    finally:
        podman("rm", "--force", "--time", "0", "--volumes", container.name, check=False)


def _as_soon_as_it_runs() -> int:
    """The pid of the program as process 1 of a container, found while Python is still starting."""
    before = set(_pids())
    end_s = time.monotonic() + 60
    while time.monotonic() < end_s:
        for pid in set(_pids()) - before:
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                status = Path(f"/proc/{pid}/status").read_text() if command.endswith(b"/heiwa\0serve\0") else ""
            except OSError:
                continue
            if command.startswith(b"/opt/heiwa/") and re.search(r"^NSpid:\s+\d+\s+1$", status, re.MULTILINE):
                return pid
    raise AssertionError("it did not start")


def _pids() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())


def test_a_volume_of_root_is_named_with_its_owner(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    done = once("serve", options=(*NARROW, "--volume", f"{tmp_path}:/data"))
    assert done.returncode == 1
    assert "/data cannot be written: Permission denied; it belongs to user 0, this is user 10001" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_watermark_is_of_the_containers_limit() -> None:
    settings = {**KEY, "HEIWA_CONNECTIONS__MEMORY_WATERMARK": "0.05"}
    with Container("short", *NARROW, "--memory", "256m", environment=settings) as container:
        eventually(lambda: metric(container, "heiwa_memory_share") > 0.05)
        with pytest.raises(InvalidStatus) as refused, device(container, "dog-1"):
            pass
        assert refused.value.response.status_code == 503
        assert "Retry-After" in refused.value.response.headers


def test_what_the_image_says_of_itself() -> None:
    config = _inspect(image())
    inner = config["Config"]
    assert inner["User"] == "10001:10001"
    assert inner["StopSignal"] == "SIGTERM"
    assert list(inner["Volumes"]) == ["/data"]
    assert list(inner["ExposedPorts"]) == ["8080/tcp"]
    assert inner["Entrypoint"][-1] == "/opt/heiwa/bin/heiwa"
    assert inner["Cmd"] == ["serve"]
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in inner["Labels"].items()}
    assert labels["version"] == __version__
    assert labels["licenses"] == "Apache-2.0"
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown", labels["revision"])
    assert config["Healthcheck"]["Test"][:2] == ["CMD", "python3"], "the OCI format drops it"
    added_bytes = config["Size"] - _inspect(BASE)["Size"]
    print(f"{added_bytes / MIB:.0f} MiB above its base")
    assert added_bytes < 150_000_000
    assert once("--version").stdout == f"heiwa {__version__}\n"


def _inspect(name: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(podman("image", "inspect", name).stdout)
    return found[0]


def test_the_bill_of_materials_is_what_is_installed() -> None:
    name = f"heiwa-test-sbom-{os.getpid()}"
    arguments = ("run", "--rm", "--name", name, *LIMITS, "--no-healthcheck", "--entrypoint", "sh", image())
    script = "cat /usr/share/heiwa/sbom.cdx.json; echo; echo FILES; ls /opt/heiwa/lib/python3*/site-packages"
    bill, _, listed = podman(*arguments, "-c", script).stdout.partition("\nFILES\n")
    components = json.loads(bill)["components"]
    installed = dict(re.findall(r"^(\S+)-(\S+)\.dist-info$", listed, re.MULTILINE))
    assert {_plain(one["name"]): one["version"] for one in components} == {_plain(k): v for k, v in installed.items()}
    locked = dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert installed.keys() >= {"aiobotocore", "heiwa_gateway"}
    assert "setuptools" not in installed
    assert {name: version for name, version in installed.items() if _plain(name) in locked} == {
        name: locked[_plain(name)] for name in installed if _plain(name) in locked
    }


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_a_deploy_of_the_image_itself(tmp_path: Path) -> None:
    """The stand-in for ECS starts and stops containers with a memory limit; none is killed for it."""
    played = deploy(tmp_path / "run", "deploy.runtime=podman", f"deploy.image={image()}", "deploy.memory_mib=128")
    assert [drain["outcome"] for drain in played.begun_by("target_health")] == ["drained", "drained"]
    assert played.figures["processes_died"] == 0
    assert not list((tmp_path / "run").glob("*.pid"))


@pytest.mark.soak
def test_the_same_checkout_gives_the_same_layers() -> None:
    image()
    layers = []
    for number in range(2):
        tag = f"localhost/heiwa-test-again-{number}"
        try:
            build(tag, "--no-cache")
            found = _inspect(tag)
            # The id also counts the names of images between the steps.
            layers.append((found["RootFS"]["Layers"], found["Config"], found["Created"]))
        finally:
            podman("image", "rm", "--force", tag, check=False)
    assert layers[0] == layers[1]
