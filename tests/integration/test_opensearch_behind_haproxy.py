"""OpenSearch behind a HAProxy that asks for a client's certificate and a password, as a security plugin would."""

from __future__ import annotations

import socket
import subprocess
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from gateway.adapters.clock import SystemClock
from gateway.adapters.opensearch.cluster import Cluster
from gateway.adapters.opensearch.connection import Access, Connection, NoAnswerError
from gateway.adapters.opensearch.definitions import Names
from gateway.adapters.opensearch.index import OpenSearchLocationIndex
from gateway.errors import ClusterError
from gateway.locations.batch import DeviceEvents
from gateway.locations.event import LocationEvent
from gateway.locations.query import Query
from loadtest.cloud import haproxy
from loadtest.opensearch.node import Node
from loadtest.processes.ports import free_port
from tests.support.certificate import make_certificate
from tests.support.opensearch import delete, new_prefix
from tests.support.packages import need

CONFIG = """
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
userlist people
    user heiwa insecure-password pass:word
frontend secured
    bind 127.0.0.1:{port} ssl crt {folder}/both.pem ca-file {folder}/certificate.pem verify required
    http-request auth unless {{ http_auth(people) }}
    default_backend node
backend node
    server node {node}
"""


@pytest.fixture
def secured(opensearch: Node, tmp_path: Path) -> Iterator[Access]:
    """How to reach the node of the tests through it."""
    program = need("haproxy", haproxy.find)
    certificate, key = make_certificate(tmp_path)
    (tmp_path / "both.pem").write_bytes(certificate.read_bytes() + key.read_bytes())
    port = free_port()
    config = tmp_path / "haproxy.cfg"
    config.write_text(CONFIG.format(port=port, folder=tmp_path, node=urllib.parse.urlsplit(opensearch.url).netloc))
    process = subprocess.Popen([program, "-q", "-db", "-f", str(config)])
    deadline_s = time.monotonic() + 20
    while not _listens(port):
        assert process.poll() is None
        assert time.monotonic() < deadline_s
    yield Access(
        f"https://127.0.0.1:{port}",
        user="heiwa",
        password="pass:word",
        ca_file=str(certificate),
        certificate_file=str(certificate),
        key_file=str(key),
    )
    process.terminate()
    process.wait(10)


def _listens(port: int) -> bool:
    with socket.socket() as peer:
        return peer.connect_ex(("127.0.0.1", port)) == 0


async def test_a_certificate_and_a_password_let_events_in_and_out(secured: Access, opensearch: Node) -> None:
    prefix = new_prefix()
    connection = Connection(secured)
    await Cluster(connection, Names(prefix), 30).init()
    await connection.close()
    index = OpenSearchLocationIndex(secured, prefix, SystemClock(), Random(1))
    await index.open()
    event = LocationEvent("e1", SystemClock().time_ms(), 35.0, 139.0)
    assert await index.write([DeviceEvents("a", "d", [event])]) == {}
    assert [one.id for one in (await index.search("a", Query()))[0]] == ["e1"]
    await index.close()
    delete(opensearch.url, prefix)


async def test_without_a_certificate_or_with_a_wrong_password_nothing_is_told(secured: Access) -> None:
    def replaced(**changes: str) -> Access:
        return Access(**{name: getattr(secured, name) for name in secured.__struct_fields__} | changes)

    stranger = Connection(replaced(certificate_file="", key_file=""))
    with pytest.raises(NoAnswerError):
        await stranger.request("GET", "/")
    await stranger.close()
    wrong = OpenSearchLocationIndex(replaced(password="other"), "locations", SystemClock(), Random(1))
    with pytest.raises(ClusterError, match="401") as told:
        await wrong.open()
    assert "other" not in str(told.value)
