"""The metrics of a gateway that has something to tell, judged by the tools of those who read them."""

from __future__ import annotations

import shutil
import socket
import subprocess
import urllib.request
from pathlib import Path

from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.support.packages import need
from tests.support.program import Program, location, receive, send

OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


def scraped(program: Program, accept: str) -> str:
    request = urllib.request.Request(f"{program.operations}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=30) as answer:
        text: bytes = answer.read()
    return text.decode()


def busy(program: Program) -> None:
    """Have connections, refusals, disconnects, events and malformed requests counted."""
    with program.connect("dev") as connection:
        send(connection, location("a"))
        receive(connection, "ack")
    for path in ("/ws", "/nothing"):
        with socket.create_connection(("127.0.0.1", program.public_port), 5) as peer:
            peer.sendall(f"GET {path} HTTP/1.1\r\nX: \1\r\n\r\n".encode())
            assert peer.recv(65_536)


def test_promtool_finds_nothing(tmp_path: Path) -> None:
    promtool = need("prometheus", lambda: shutil.which("promtool"))
    with Program(tmp_path / "data") as program:
        busy(program)
        text = scraped(program, "text/plain")
    judged = subprocess.run(
        [promtool, "check", "metrics"], input=text.encode(), capture_output=True, timeout=60, check=False
    )
    assert (judged.returncode, judged.stdout + judged.stderr) == (0, b"")
    assert "_created" not in text


def test_open_metrics_is_read_by_its_parser(tmp_path: Path) -> None:
    with Program(tmp_path / "data") as program:
        busy(program)
        text = scraped(program, OPEN_METRICS)
        plain = scraped(program, "text/plain")
    families = list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call]
    assert all(family.documentation and family.type != "unknown" for family in families)
    samples = {sample.name for family in families for sample in family.samples}
    assert "heiwa_handshakes_refused_total" in samples
    assert not [name for name in samples if name.endswith("_created")]
    assert samples == {line.partition("{")[0].split()[0] for line in plain.splitlines() if not line.startswith("#")}
