"""A server that answers a device's first connections as broken servers and proxies do, and then serves it well."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

ODD_TRIES = 2
SERVED_S = 60.0
DRIP_S = 0.1
HEARD_OUT_S = 5.0
WELCOME = '{"type":"welcome","connection":"c","time":1,"heartbeat_s":45,"max_message_bytes":4096,"max_events":50}'


def refusal(status: str, *headers: str, body: str = "no") -> bytes:
    """An HTTP answer."""
    fields = "".join(f"{header}\r\n" for header in headers)
    return f"HTTP/1.1 {status}\r\n{fields}Content-Length: {len(body)}\r\n\r\n{body}".encode()


def busy(*values: str) -> bytes:
    return refusal("503 Service Unavailable", *(f"Retry-After: {value}" for value in values))


RESET = b"reset"
SILENCE = b"silence"
DRIP = b"drip"
ACCEPTED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
# The whole answer to a handshake; the connection is closed after it.
REFUSALS = {
    "closed": b"",
    "reset": RESET,
    "half-an-answer": b"HTTP/1.1 101 Switching Proto",
    "half-a-head": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n",
    "garbage": bytes(range(1, 256)) * 3,
    "another-protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "wrong-key": ACCEPTED + b"Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n",
    "no-key": ACCEPTED + b"\r\n",
    "long-head": ACCEPTED + b"X: " + b"x" * 2_000_000,
    "many-fields": ACCEPTED + b"X: x\r\n" * 20_000 + b"\r\n",
    "100-only": b"HTTP/1.1 100 Continue\r\n\r\n",
    "chunked": b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "http-0.9": b"<html>",
    "204": refusal("204 No Content"),
    "200": refusal("200 OK", "Content-Type: text/html", body="<p>log in to the network of this hotel"),
    "301-to-itself": refusal("301 Moved Permanently", "Location: /ws"),
    "302-nowhere": refusal("302 Found", "Location: http://[::1"),
    "307-elsewhere": refusal("307 Temporary Redirect", "Location: ws://127.0.0.1:1/ws"),
    "400": refusal("400 Bad Request"),
    "401": refusal("401 Unauthorized", 'WWW-Authenticate: Bearer error="invalid_token"'),
    "403": refusal("403 Forbidden"),
    "404": refusal("404 Not Found"),
    "418": refusal("418 I'm a teapot"),
    "426": refusal("426 Upgrade Required", "Upgrade: websocket"),
    "429": refusal("429 Too Many Requests"),
    "500": refusal("500 Internal Server Error"),
    "503-deep": refusal("503 Service Unavailable", "Content-Type: application/problem+json", body="[" * 5000),
    "502": refusal("502 Bad Gateway", "Content-Type: text/html", body="<h1>502</h1>" * 100),
    "retry-0": busy("0"),
    "retry-1": busy("1"),
    "retry-date": busy("Wed, 21 Oct 2026 07:28:00 GMT"),
    "retry-empty": busy(""),
    "retry-doubled": busy("1", "1"),
    "retry-list": busy("1, 1"),
    "retry-negative": busy("-5"),
    "retry-nan": busy("nan"),
    "retry-inf": busy("1e400"),
    "retry-junk": busy("1junk"),
    "retry-other-digits": busy("\u0663"),
}
# Once only, for it takes a client its whole time-out to find out.
SILENT = {"no-answer": SILENCE, "an-answer-in-drops": DRIP}
# These ask for a wait that no test sits out.
LONG_REFUSALS = {"retry-absurd": busy("9" * 30), "retry-enormous": busy("9" * 3000)}


def text(payload: str) -> bytes:
    return Frame(Opcode.TEXT, payload.encode()).serialize(mask=False)


def closing(code: int) -> bytes:
    return Frame(Opcode.CLOSE, code.to_bytes(2, "big")).serialize(mask=False)


# What is sent on a websocket that was opened; the connection is closed after it.
CONVERSATIONS = {
    "open-closed": b"",
    "open-reset": RESET,
    "open-garbage": bytes(range(255, 0, -1)),
    "open-masked": Frame(Opcode.TEXT, WELCOME.encode()).serialize(mask=True),
    "open-binary": Frame(Opcode.BINARY, b"\x00\xff").serialize(mask=False),
    "open-enormous": b"\x81\x7f\x7f" + b"\xff" * 7 + b"x",
    "open-a-close-of-one-byte": b"\x88\x01\x03",
    "open-limits-of-nothing": text(WELCOME.replace('"max_events":50', '"max_events":-1')),
    "open-limits-of-all": text(WELCOME.replace('"max_events":50', '"max_events":1e400')),
    "open-a-nack-of-words": text(WELCOME) + text('{"type":"nack","ids":[7,null],"retry_after_ms":"soon"}'),
    "open-1001": text(WELCOME) + closing(1001),
    "open-1000": text(WELCOME) + closing(1000),
    "open-1011": text(WELCOME) + closing(1011),
    "open-1012": text(WELCOME) + closing(1012),
    "open-4503": text(WELCOME) + closing(4503),
    "open-not-json": text("{"),
    "open-a-number": text("17"),
    "open-null": text("null"),
    "open-deep": text("[" * 5000),
    "open-a-welcome-of-nothing": text('{"type":"welcome"}'),
    "open-a-welcome-of-words": text('{"type":"welcome","connection":7,"max_events":"many"}'),
    "open-an-ack-of-nothing": text(WELCOME) + text('{"type":"ack","ids":null}'),
    "goaway-0": text(WELCOME) + text('{"type":"goaway","reason":"drain","reconnect_after_ms":0}') + closing(1001),
    "goaway-of-lists": text(WELCOME) + text('{"type":"goaway","reason":["replaced"],"reconnect_after_ms":[0]}'),
    "goaway-negative": text(WELCOME) + text('{"type":"goaway","reason":"drain","reconnect_after_ms":-9}'),
    "goaway-a-word": text(WELCOME) + text('{"type":"goaway","reason":"drain","reconnect_after_ms":"soon"}'),
    "goaway-without-a-time": text(WELCOME) + text('{"type":"goaway","reason":"drain"}') + closing(1001),
}
LONG_CONVERSATIONS = {
    # More than a timer of 32 bits takes.
    "goaway-absurd": text(WELCOME) + text('{"type":"goaway","reason":"drain","reconnect_after_ms":1099511627776}'),
}
LONG = LONG_REFUSALS | LONG_CONVERSATIONS
ODD = REFUSALS | SILENT | CONVERSATIONS | LONG


class OddServer:
    """`tries_s` are the moments of the requests; `served` is set once an event was acknowledged."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tries_s: list[float] = []
        self.ended_s: list[float] = []
        self.served = asyncio.Event()
        self.url = ""

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Listen on a free port while the block lasts."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
        try:
            yield
        finally:
            server.close()

    @property
    def shortest_wait_s(self) -> float:
        """Between the end of a connection and the next try."""
        pairs = zip(self.ended_s, self.tries_s[1:], strict=False)
        return min((later_s - ended_s for ended_s, later_s in pairs), default=float("inf"))

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(SERVED_S):
                # Some clients connect ahead of their next handshake; a try begins with its request.
                head = await reader.readuntil(b"\r\n\r\n")
                self.tries_s.append(time.monotonic())
                odd_tries = 1 if self.name in SILENT else ODD_TRIES
                tries = len(self.tries_s)
                try:
                    await self._answer(head, reader, writer, odd=tries <= odd_tries)
                finally:
                    if len(self.ended_s) < tries:
                        self.ended_s.append(time.monotonic())
        writer.close()

    async def _answer(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, odd: bool
    ) -> None:
        if odd and (answer := (REFUSALS | SILENT | LONG_REFUSALS).get(self.name)) is not None:
            if answer == DRIP:
                await _drip(reader, writer)
            elif answer == SILENCE:
                await reader.read()
            else:
                await self._say_last(writer, answer)
            return
        protocol = ServerProtocol(subprotocols=[Subprotocol("heiwa.v1.json")])
        protocol.receive_data(head)
        (request,) = protocol.events_received()
        assert isinstance(request, Request)
        protocol.send_response(protocol.accept(request))
        await _write(writer, b"".join(protocol.data_to_send()))
        if odd:
            said = (CONVERSATIONS | LONG_CONVERSATIONS)[self.name]
            await self._say_last(writer, said)
            if said != RESET:
                # Closed at once it would answer what the client sends with a reset, which can outrun what was said.
                writer.write_eof()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(HEARD_OUT_S):
                        await reader.read()
            return
        protocol.send_text(WELCOME.encode())
        await self._serve(protocol, reader, writer)

    async def _say_last(self, writer: asyncio.StreamWriter, said: bytes) -> None:
        # A client may end it for what it read, and be back before the end of this connection is seen here.
        self.ended_s.append(time.monotonic())
        await _write(writer, said)

    async def _serve(
        self, protocol: ServerProtocol, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            await _write(writer, b"".join(protocol.data_to_send()))
            data = await reader.read(65_536)
            if not data:
                return
            protocol.receive_data(data)
            for event in protocol.events_received():
                if isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                    self._settle(protocol.send_text, json.loads(bytes(event.data)))

    def _settle(self, send: Callable[[bytes], None], message: dict[str, object]) -> None:
        events = message.get("events", [message] if message["type"] == "location" else [])
        assert isinstance(events, list)
        if events:
            ids = [event["id"] for event in events]
            send(json.dumps({"type": "ack", "ids": ids, "durability": "indexed"}).encode())
            self.served.set()


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    if data == RESET:
        made: socket.socket = writer.get_extra_info("socket")
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        return
    writer.write(data)
    await writer.drain()


async def _drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A byte of an answer now and then, until the client ends it.

    A write learns of that end late, when the next try is already there.
    """
    ended = asyncio.create_task(reader.read())
    try:
        for byte in ACCEPTED + b"X: " + b"x" * 1000:
            writer.write(bytes((byte,)))
            if (await asyncio.wait({ended}, timeout=DRIP_S))[0]:
                return
    finally:
        ended.cancel()
