"""What only a real socket can prove about the transport: resets, lost peers, full buffers, TLS."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from gateway.connections.ending import DRAIN
from gateway.connections.hub import TICK_S
from gateway.settings.model import Listen
from gateway.wire.listener import tls_context
from gateway.wire.socket_end import reset
from tests.support.bench import ECHO, device
from tests.support.certificate import make_certificate
from tests.support.sockets import Served, on_uvloop, served
from tests.support.wire import CLOSE, PING, TEXT, client_frame, close_payload, read_answer, request, server_frames

HEADERS = {"Authorization": "Bearer good"}
FULL_BYTES = 4_000_000


def _the_only_end(there: Served) -> tuple[str, int]:
    ((reason, code, _),) = there.hub.disconnects
    return reason, code


@on_uvloop
async def test_echo_to_a_real_client() -> None:
    async with (
        served("connections.outbound_max_bytes=1000000") as there,
        connect(there.url(), additional_headers=HEADERS, subprotocols=[ECHO]) as client,
    ):
        assert client.subprotocol == ECHO
        for message in (
            "",
            "平和",
            "x" * 125,
            "x" * 126,
            "x" * 65_536,
            "x" * 131_072,
            ["in ", "many ", "frag", "ments"],
        ):
            await client.send(message)
            assert await client.recv() == (message if isinstance(message, str) else "".join(message))
        await (await client.ping())


@on_uvloop
async def test_compression_when_it_is_on() -> None:
    async with (
        served("connections.compression=true") as there,
        connect(there.url(), additional_headers=HEADERS, subprotocols=[ECHO]) as client,
    ):
        assert [extension.name for extension in client.protocol.extensions] == ["permessage-deflate"]
        for message in ("x" * 100_000, ["in ", "many ", "fragments"], "平和"):
            await client.send(message)
            assert await client.recv() == (message if isinstance(message, str) else "".join(message))


@on_uvloop
async def test_no_compression_by_default() -> None:
    async with served() as there, connect(there.url(), additional_headers=HEADERS, subprotocols=[ECHO]) as client:
        assert client.protocol.extensions == []


@on_uvloop
async def test_abort_is_seen_as_a_reset() -> None:
    async with served() as there:
        peer, connection = await there.dial_open()
        reset(connection.transport)
        with pytest.raises(ConnectionResetError):
            await peer.reader.read()
        await there.session.closed_now.wait()


@on_uvloop
async def test_a_planned_close_is_seen_as_goaway_and_1001() -> None:
    async with served() as there, connect(there.url(), additional_headers=HEADERS, subprotocols=[ECHO]) as client:
        there.hub.registry.disconnect("acme", "dev-1", 0, "drain")
        assert '"type":"goaway"' in str(await client.recv())
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1001
        await there.session.closed_now.wait()


@on_uvloop
async def test_a_peer_that_never_reads_does_not_hold_its_file_after_a_close() -> None:
    async with served("connections.close_timeout_s=0.5", f"connections.outbound_max_bytes={2 * FULL_BYTES}") as there:
        peer, connection = await there.dial_open()
        peer.stop_reading()
        connection.send(b"x" * FULL_BYTES)
        connection.close(DRAIN, "", code=1012)
        await there.session.closed_now.wait()
        assert there.hub.admission.open == 0
        peer.close()


@on_uvloop
async def test_a_peer_that_never_reads_does_not_hold_its_file_after_its_own_end() -> None:
    async with served("connections.close_timeout_s=0.5", f"connections.outbound_max_bytes={2 * FULL_BYTES}") as there:
        peer, connection = await there.dial_open()
        peer.stop_reading()
        connection.send(b"x" * FULL_BYTES)
        # Reading is paused while the peer does not read; its end shows once the pipeline of bytes moves again.
        connection.resume_writing()
        peer.writer.write_eof()
        await there.session.closed_now.wait()
        assert there.hub.admission.open == 0
        peer.close()


@on_uvloop
async def test_a_slow_consumer_is_closed_with_4503() -> None:
    async with served("connections.close_timeout_s=0.5", "connections.outbound_max_bytes=16384") as there:
        peer, connection = await there.dial_open()
        peer.stop_reading()
        # What the kernel takes is not unsent; after that nothing moves.
        while not there.hub.endings:
            connection.send(b"x" * 8000)
        await there.session.closed_now.wait()
        assert _the_only_end(there) == ("slow_consumer", 4503)
        peer.close()


@on_uvloop
async def test_a_silent_peer_is_pinged_and_closed_with_4408() -> None:
    async with served("connections.heartbeat_s=0.5", "connections.close_timeout_s=0.5") as there:
        peer, _ = await there.dial_open()
        frames = server_frames(await peer.reader.read())
        assert frames[0].opcode == PING
        assert frames[-1].opcode == CLOSE
        assert frames[-1].close_code == 4408
        await there.session.closed_now.wait()
        assert _the_only_end(there) == ("heartbeat_timeout", 4408)
        peer.close()


@on_uvloop
async def test_a_late_request_gets_its_408_whole() -> None:
    async with served("listen.handshake_timeout_s=0.5", "connections.close_timeout_s=0.5") as there:
        peer = await there.dial(request("good")[:-2])
        assert read_answer(await peer.reader.read()).status == 408
        peer.close()


@on_uvloop
async def test_a_request_that_is_too_large_gets_its_431_whole() -> None:
    async with served() as there:
        peer = await there.dial(request("good", headers=[("X-Large", "x" * 100_000)]))
        assert read_answer(await peer.reader.read()).status == 431
        peer.close()


@on_uvloop
async def test_a_proxy_header_glued_to_request_and_frame() -> None:
    async with served("listen.proxy_protocol=true", "listen.trusted_proxies=127.0.0.0/8") as there:
        addresses = b"\x21\x11\x00\x0c" + bytes((203, 0, 113, 5, 127, 0, 0, 1)) + b"\x0f\xa0\x01\xbb"
        header = b"\r\n\r\n\x00\r\nQUIT\n" + addresses
        peer = await there.dial(header + request("good", protocols=[ECHO]) + client_frame(TEXT, b"hello"))
        await peer.reader.readuntil(b"\r\n\r\n")
        assert await peer.reader.readexactly(7) == b"\x81\x05hello"
        found = there.hub.registry.find("acme", "dev-1")
        assert found is not None
        assert found.address == "203.0.113.5"
        peer.close()


@on_uvloop
async def test_every_file_is_free_after_many_connections() -> None:
    async with served("connections.duplicates=allow", "connections.flap_limit=0") as there:
        for _ in range(5):
            peers = [await there.dial_open() for _ in range(20)]
            there.hub.emptied.clear()
            for peer, _ in peers:
                peer.close()
            await there.hub.emptied.wait()
        assert there.hub.admission.open == there.hub.admission.pending == 0
        assert there.hub.table.slots <= 40


def test_echo_over_tls(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    context = tls_context(Listen(tls_certificate_file=str(certificate), tls_key_file=str(key)))
    trust = ssl.create_default_context(cafile=str(certificate))

    @on_uvloop
    async def echo() -> None:
        async with served("connections.close_timeout_s=0.5", tls=context) as there:
            url = there.url("wss")
            async with connect(url, additional_headers=HEADERS, subprotocols=[ECHO], ssl=trust) as client:
                await client.send("平和" * 10_000)
                assert await client.recv() == "平和" * 10_000
            async with asyncio.timeout(5):
                await there.session.closed_now.wait()
            assert _the_only_end(there) == ("closed_by_peer", 1000)

    echo()


def _close_after_the_server(port: int, trust: ssl.SSLContext) -> bytes:
    """Open a websocket over TLS, answer the server's close frame, and read to an end that TLS vouches for."""
    with (
        socket.create_connection(("127.0.0.1", port), 5) as plain,
        # Without a closing alert (RFC 8446, 6.1) the end would be an SSLEOFError.
        trust.wrap_socket(plain, server_hostname="127.0.0.1", suppress_ragged_eofs=False) as secured,
    ):
        secured.sendall(request("good", protocols=[ECHO]))
        data = b""
        while not data.endswith(close_payload(1012)):
            data += (more := secured.recv(4096))
            assert more, data
        secured.sendall(client_frame(CLOSE, close_payload(1012)))
        assert secured.recv(4096) == b""
        secured.unwrap()
        return read_answer(data).rest


def test_a_close_of_ours_ends_cleanly_over_tls(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    certificate, key = make_certificate(tmp_path)
    context = tls_context(Listen(tls_certificate_file=str(certificate), tls_key_file=str(key)))
    trust = ssl.create_default_context(cafile=str(certificate))

    @on_uvloop
    async def close() -> None:
        async with served(tls=context) as there:
            client = asyncio.create_task(asyncio.to_thread(_close_after_the_server, there.port, trust))
            await there.session.opened_now.wait()
            there.session.connections[0].close(DRAIN, "", code=1012)
            (closed,) = server_frames(await client)
            assert closed.close_code == 1012
            await there.session.closed_now.wait()
            assert _the_only_end(there) == ("drain", 1012)

    close()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


# TLS handshakes


def test_tls_handshakes_are_counted_and_bounded(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    context = tls_context(Listen(tls_certificate_file=str(certificate), tls_key_file=str(key)))
    trust = ssl.create_default_context(cafile=str(certificate))
    flags = ("connections.handshakes_pending=3", "listen.handshake_timeout_s=1")

    @on_uvloop
    async def hold() -> None:
        async with served(*flags, tls=context) as there:
            silent = [await there.dial() for _ in range(3)]
            more = await there.dial()
            # At the maximum nobody is told anything: that would take the very cryptography that is short.
            with contextlib.suppress(ConnectionError):
                assert await more.reader.read() == b""
            counts = there.hub.admission
            assert (counts.open, counts.pending, len(there.door.securing)) == (3, 3, 3)
            await asyncio.gather(*there.door.securing)
            for peer in (*silent, more):
                peer.close()
            assert there.door.refusals == {(0, "pending"): 1, (0, "tls"): 3}
            url = there.url("wss")
            async with connect(url, additional_headers=HEADERS, subprotocols=[ECHO], ssl=trust) as client:
                await client.send("in")
                assert await client.recv() == "in"
                assert (counts.open, counts.pending) == (1, 0)
        assert not there.door.securing

    hold()


@pytest.mark.parametrize("greeting", [b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b""])
def test_what_is_no_tls_ends_and_is_counted_out(tmp_path: Path, greeting: bytes) -> None:
    certificate, key = make_certificate(tmp_path)
    context = tls_context(Listen(tls_certificate_file=str(certificate), tls_key_file=str(key)))

    @on_uvloop
    async def knock() -> None:
        async with served("listen.handshake_timeout_s=0.3", tls=context) as there:
            peer = await there.dial(greeting)
            with contextlib.suppress(ConnectionError):
                await peer.reader.read()
            peer.close()
            await asyncio.gather(*there.door.securing)
            assert (there.hub.admission.open, there.hub.admission.pending) == (0, 0)
            assert sum(there.door.refusals.values()) == 1

    knock()


@pytest.mark.parametrize("glued", [True, False])
def test_a_proxys_header_comes_before_the_tls_handshake(tmp_path: Path, glued: bool) -> None:
    certificate, key = make_certificate(tmp_path)
    context = tls_context(Listen(tls_certificate_file=str(certificate), tls_key_file=str(key)))
    header = b"PROXY TCP4 203.0.113.7 192.0.2.1 40000 443\r\n"

    @on_uvloop
    async def knock() -> None:
        async with served("listen.proxy_protocol=true", "listen.trusted_proxies=127.0.0.1", tls=context) as there:
            hello, answer, engine = (
                ssl.MemoryBIO(),
                ssl.MemoryBIO(),
                ssl.create_default_context(cafile=str(certificate)),
            )
            layer = engine.wrap_bio(answer, hello, server_hostname="127.0.0.1")
            with contextlib.suppress(ssl.SSLWantReadError):
                layer.do_handshake()
            first = hello.read()
            peer = await there.dial(header + first if glued else header[:10])
            if not glued:
                await asyncio.sleep(0)
                peer.writer.write(header[10:])
                peer.writer.write(first)
            while True:
                answer.write(await peer.reader.read(65_536))
                try:
                    layer.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    continue
            layer.write(request("good", protocols=[ECHO]))
            peer.writer.write(hello.read())
            await there.session.opened_now.wait()
            connection = there.session.connections[0]
            assert there.hub.table.address(connection.slot) == "203.0.113.7"
            peer.close()
            await there.session.closed_now.wait()

    knock()


def test_without_a_proxys_header_there_is_no_tls(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    context = tls_context(Listen(tls_certificate_file=str(certificate), tls_key_file=str(key)))

    @on_uvloop
    async def knock() -> None:
        async with served("listen.proxy_protocol=true", "listen.trusted_proxies=127.0.0.1", tls=context) as there:
            peer = await there.dial(b"\x16\x03\x01\x00\x05hello")
            with contextlib.suppress(ConnectionError):
                assert await peer.reader.read() == b""
            peer.close()
            await asyncio.gather(*there.door.securing)
            assert there.door.refusals == {(0, "proxy"): 1}

    knock()


# Resets


@on_uvloop
async def test_before_a_reset_everything_arrives() -> None:
    async with served("device_classes.lorry.close=abort", "connections.outbound_max_bytes=1000000") as there:
        there.identify(device(device_class="lorry"))
        peer, connection = await there.dial_open()
        connection.send(b"x" * 100_000)
        connection.fail(4400, "")
        received = bytearray()
        with pytest.raises(ConnectionResetError):
            while part := await peer.reader.read(65_536):
                received += part
        (frame,) = server_frames(bytes(received))
        assert len(frame.payload) == 100_000
        await there.session.closed_now.wait()


@on_uvloop
async def test_a_peer_that_reads_nothing_is_reset_after_a_second() -> None:
    async with served("device_classes.lorry.close=abort", f"connections.outbound_max_bytes={2 * FULL_BYTES}") as there:
        there.identify(device(device_class="lorry"))
        peer, connection = await there.dial_open()
        peer.stop_reading()
        connection.send(b"x" * FULL_BYTES)
        began_s = there.hub.clock.monotonic_s()
        connection.fail(4400, "")
        await there.session.closed_now.wait()
        assert there.hub.clock.monotonic_s() - began_s >= 1 - TICK_S
        peer.close()
