"""The path `/ws` on a connection that has served HTTP before: the connection goes back to those who accept websockets.

The first request of a connection does not come here: it is read before the API has the connection.
"""

from __future__ import annotations

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter

from gateway.api.problem import Problem
from gateway.connections.handover import UPGRADE
from gateway.wire.handshake import is_websocket_path


class _Tail:
    """Collects what came behind the request: aiohttp gives that to the parser of an upgraded connection."""

    def __init__(self) -> None:
        self.data = b""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.data += data
        return False, b""

    def feed_eof(self) -> None: ...


class _HandedOver(web.StreamResponse):
    """Answers nothing: the door does."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        self.force_close()
        return None

    async def write_eof(self, data: bytes = b"") -> None: ...


async def websocket(request: web.Request) -> web.StreamResponse:
    """Hand the request over as it came, whatever its method and headers are."""
    lines = [f"{request.method} {request.raw_path} HTTP/{request.version.major}.{request.version.minor}".encode()]
    lines += [name + b": " + value for name, value in request.raw_headers]
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    upgrade = request.transport.get_extra_info(UPGRADE) if request.transport is not None else None
    # aiohttp decodes the path and cuts a fragment off: those who accept websockets would give such a request back.
    if upgrade is None or not is_websocket_path(head):
        raise Problem(404, "there is nothing at this path")
    tail = _Tail()
    request.protocol.set_parser(tail)  # type: ignore[arg-type]
    upgrade(head + tail.data)
    return _HandedOver(headers={hdrs.CONNECTION: "close"})
