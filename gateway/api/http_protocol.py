"""aiohttp's protocol with answers of our own for what its parser refuses, and a bound on connections.

aiohttp answers a malformed request in plain text that quotes it, and logs it with a traceback, as often as peers like:
a token with a stray byte at its end would stand in both.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from typing import Any, cast

from aiohttp import web
from aiohttp.http import HttpVersion10
from aiohttp.http_exceptions import HttpProcessingError
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from gateway.api.http_rates import HttpRates
from gateway.api.problem import HEADERS, RETRY_AFTER_S, Handler, Problem, problems
from gateway.clock import Clock
from gateway.rate import TokenBucket
from gateway.telemetry.log import Log
from gateway.telemetry.metrics import counter
from gateway.wire.handshake import Rejected

# Longer than the 60 s for which load balancers keep connections: who closes first must not be the server.
KEEPALIVE_S = 75.0
_LOGS_PER_S = 10.0
_log = Log("api")
# The parser's refusals, of a head and of a body.
_PEERS_MISTAKES = (HttpProcessingError, web.RequestPayloadError)


class HttpListener:
    """What the HTTP connections of one listener share; calling it makes the protocol of a new one.

    `maximum` 0: they are counted elsewhere. At the maximum the connection that has waited longest for its next request
    makes room; where all are busy the new one gets 503.
    """

    def __init__(self, name: str, server: web.Server, clock: Clock, maximum: int = 0) -> None:
        self.name = name
        self.maximum = maximum
        self.malformed: Counter[str] = Counter()
        self.refused = 0
        self._server = server
        self._clock = clock
        self._lines = TokenBucket(_LOGS_PER_S, _LOGS_PER_S, clock.monotonic_s())
        # In the order in which they last did something.
        self.open: dict[HttpProtocol, None] = {}
        # aiohttp answers an unknown Expect before any middleware.
        handle = cast(Handler, server.request_handler)
        server.request_handler = cast(Any, partial(_answered, handle))

    def __call__(self) -> asyncio.Protocol:
        if self.maximum and len(self.open) >= self.maximum and not self._make_room():
            self.refused += 1
            return _Refusing()
        return HttpProtocol(self, self._server)

    def _make_room(self) -> bool:
        idle = next((one for one in self.open if not one.busy), None)
        if idle is None:
            return False
        idle.abandon()
        return True

    def may_log(self) -> bool:
        """Whether one more line about peers' mistakes fits into this second."""
        return self._lines.take(self._clock.monotonic_s())


class HttpProtocol(web.RequestHandler):
    """One connection. `busy` from a request that is whole to the end of its answer."""

    __slots__ = ("_listener", "_reading", "busy")

    def __init__(self, listener: HttpListener, server: web.Server) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]
            keepalive_timeout=KEEPALIVE_S,
        )
        self._listener = listener
        self.busy = False
        self._reading: asyncio.Task[Any] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._listener.open[self] = None

    def connection_lost(self, exc: BaseException | None) -> None:
        self._listener.open.pop(self, None)
        if self._reading is not None:
            self._reading.cancel()
        super().connection_lost(exc)

    @contextmanager
    def for_the_answer(self) -> Iterator[None]:
        """What the current task does within this is for the peer alone: it is cancelled once the connection ends."""
        self._reading = asyncio.current_task()
        try:
            yield
        finally:
            self._reading = None

    def data_received(self, data: bytes) -> None:
        try:
            super().data_received(data)
        except Exception as error:
            # The parser failed in a way that it does not know: whatever it is, only this connection ends.
            self.log_exception(exc_info=error)
            self.abandon()

    def abandon(self) -> None:
        """Drop the connection at once."""
        self._listener.open.pop(self, None)
        transport = self.transport
        self.force_close()
        if transport is not None:
            transport.abort()

    def may_log(self) -> bool:
        """Whether one more line fits into this second."""
        return self._listener.may_log()

    def began(self) -> None:
        """A request is there."""
        self.busy = True

    def ended(self) -> None:
        """It was answered, or given up."""
        self.busy = False
        opened = self._listener.open
        if self in opened:
            del opened[self]
            opened[self] = None

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write the answer, for as long as the peer takes to read it."""
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self.ended()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what did not become a request, quoting nothing of it."""
        self.log_exception(exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun")
        known = status < HTTPStatus.INTERNAL_SERVER_ERROR
        detail = "the request is not valid HTTP" if known else "an unexpected error; it has been logged"
        response = Problem(status, detail).response()
        response.headers.update(HEADERS)
        response.force_close()
        return response

    def log_exception(self, *args: Any, **fields: Any) -> None:
        """Count and name a mistake of the peer, or a failure of ours or the library's; neither can flood the log."""
        listener, error = self._listener, fields.get("exc_info")
        if isinstance(error, _PEERS_MISTAKES):
            kind = type(error).__name__
            listener.malformed[kind] += 1
            if listener.may_log():
                peer = self.transport.get_extra_info("peername") if self.transport is not None else None
                _log.info("request_malformed", listener=listener.name, kind=kind, address=peer[0] if peer else "")
        elif listener.may_log():
            _log.error("request_failed", exc_info=error, listener=listener.name)


async def _answered(handle: Handler, request: web.Request) -> web.StreamResponse:
    protocol = cast(HttpProtocol, request.protocol)
    protocol.began()
    try:
        return await problems(request, partial(_sound, handle))
    except BaseException:
        protocol.ended()
        raise


async def _sound(handle: Handler, request: web.Request) -> web.StreamResponse:
    """Refuse what aiohttp lets pass although no client speaks it."""
    if request.version < HttpVersion10:
        raise Problem(400, "version 1.0 or 1.1 of HTTP is needed")
    return await handle(request)


class _Refusing(asyncio.Protocol):
    """The listener holds as many connections as it may: say so, and end."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        refusal = Rejected(
            503, "connections", "this listener holds as many connections as it may", {"Retry-After": str(RETRY_AFTER_S)}
        )
        made = cast(asyncio.Transport, transport)
        made.write(refusal.response())
        made.close()


class HttpMetrics:
    """A collector over listeners, added once they exist, and over the rates of devices that use HTTP."""

    def __init__(self, rates: HttpRates) -> None:
        self.listeners: list[HttpListener] = []
        self._rates = rates

    def collect(self) -> Iterator[Metric]:
        held = GaugeMetricFamily("heiwa_http_connections", "HTTP connections open now.", labels=["listener"])
        refused = CounterMetricFamily(
            "heiwa_http_connections_refused", "HTTP connections refused at the listener's maximum.", labels=["listener"]
        )
        malformed = CounterMetricFamily(
            "heiwa_http_requests_malformed", "Requests that were not valid HTTP.", labels=["listener", "kind"]
        )
        for listener in self.listeners:
            held.add_metric([listener.name], len(listener.open))
            refused.add_metric([listener.name], listener.refused)
            for kind, count in sorted(listener.malformed.items()):
                malformed.add_metric([listener.name, kind], count)
        yield from (held, refused, malformed)
        yield counter("heiwa_http_requests_limited", "Requests of devices that send too fast.", self._rates.limited)
