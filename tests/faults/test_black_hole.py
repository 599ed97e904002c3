"""A network that swallows everything: the peer neither answers nor closes, and no packet says so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.packages import missing, need
from tests.support.program import Program, eventually


@dataclass
class Network:
    """A namespace of our own, joined by a pair of virtual interfaces."""

    name: str
    here: str
    there: str

    def inside(self, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *command]

    def swallow(self) -> None:
        """Drop every packet in both directions."""
        for line in (
            "add table inet hole",
            "add chain inet hole input { type filter hook input priority 0; policy drop; }",
            "add chain inet hole output { type filter hook output priority 0; policy drop; }",
        ):
            subprocess.run(self.inside("nft", line), check=True)


@pytest.fixture
def network() -> Iterator[Network]:
    if os.geteuid() != 0:
        missing("needs root to make a network namespace")
    need("iproute2", lambda: shutil.which("ip"))
    need("nftables", lambda: shutil.which("nft"))
    number = os.getpid() % 250
    made = Network(f"heiwa-{os.getpid()}", f"10.213.{number}.1", f"10.213.{number}.2")
    outer, inner = f"hw{os.getpid()}a", f"hw{os.getpid()}b"
    for command in (
        f"ip netns add {made.name}",
        f"ip link add {outer} type veth peer name {inner} netns {made.name}",
        f"ip addr add {made.here}/30 dev {outer}",
        f"ip link set {outer} up",
        f"ip -n {made.name} addr add {made.there}/30 dev {inner}",
        f"ip -n {made.name} link set {inner} up",
        f"ip -n {made.name} link set lo up",
    ):
        subprocess.run(command.split(), check=True)
    try:
        yield made
    finally:
        subprocess.run(["ip", "netns", "del", made.name], check=True)


def test_peers_in_a_black_hole_are_found(tmp_path: Path, network: Network) -> None:
    settings = (f"listen.public={network.here}:0", "connections.heartbeat_s=1", "connections.close_timeout_s=0.5")
    with Program(tmp_path / "data", *settings) as program:
        url = f"ws://{network.here}:{program.public_port}/ws"
        command = [sys.executable, "-m", "gateway", "device", "--sub", "lost", "--url", url, "--duration", "60s"]
        command += ["--set", f"data.folder={program.folder}"]
        device = subprocess.Popen(network.inside(*command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            eventually(lambda: program.metrics()["heiwa_connections"] == 1)
            eventually(lambda: next(program.found(), None) is not None)
            network.swallow()
            eventually(lambda: program.metrics()["heiwa_connections"] == 0, what="a lost peer was kept")
            last = program.get("/api/v1/devices/lost")["last_disconnect"]
            assert last["fault"] == "network"
            assert last["reason"] in ("heartbeat_timeout", "timed_out")
        finally:
            device.kill()
            device.wait(10)
