"""Free ports are given to one caller only, and never to a program's own clients."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.processes import ports


def one_more() -> str:
    """What another process is given."""
    code = "from loadtest.processes import ports; ports.FIRST, ports.END = {}, {}; print(ports.free_port())"
    done = subprocess.run(
        [sys.executable, "-c", code.format(ports.FIRST, ports.END)], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or done.stderr.splitlines()[-1]


def test_a_port_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    port = ports.free_port()
    monkeypatch.setattr(ports, "FIRST", port)
    monkeypatch.setattr(ports, "END", port + 1)
    with pytest.raises(OSError, match="no port"):
        ports.free_port()
    assert "no port" in one_more()


def test_a_port_where_somebody_listens_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(ports, "FIRST", port)
        monkeypatch.setattr(ports, "END", port + 1)
        assert "no port" in one_more()


def test_no_outgoing_connection_takes_one() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert ports.free_port() < ports.END <= lowest
