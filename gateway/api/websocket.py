"""The path `/ws` on a connection that has served HTTP before: the connection goes back to those who accept websockets.

The first request of a connection does not come here: it is read before the API has the connection.
"""

from __future__ import annotations

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter

from gateway.api.problem import Problem
from gateway.connections.handed import UPGRADE


class _Tail:
    """Collects what came behind the request: aiohttp gives that to the parser of an upgraded connection."""

    def __init__(self) -> None:
        self.data = b""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.data += data
        return False, b""

    def feed_eof(self) -> None: ...


class _HandedOver(web.StreamResponse):
    """Answers nothing: somebody else does."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        self.force_close()
        return None

    async def write_eof(self, data: bytes = b"") -> None: ...


async def websocket(request: web.Request) -> web.StreamResponse:
    """Hand the request over as it came, whatever its method and headers are."""
    upgrade = request.transport.get_extra_info(UPGRADE) if request.transport is not None else None
    if upgrade is None:
        raise Problem(404, "there is nothing at this path")
    tail = _Tail()
    request.protocol.set_parser(tail)  # type: ignore[arg-type]
    lines = [f"{request.method} {request.raw_path} HTTP/{request.version.major}.{request.version.minor}".encode()]
    lines += [name + b": " + value for name, value in request.raw_headers]
    upgrade(b"\r\n".join(lines) + b"\r\n\r\n" + tail.data)
    return _HandedOver(headers={hdrs.CONNECTION: "close"})
