"""Past connections of a device, and why it dropped, in words."""

from __future__ import annotations

from aiohttp import web

from gateway.api.call import Call, answer
from gateway.api.devices import name_of, reachable
from gateway.api.operation import Listener, Operation
from gateway.api.problem import Problem
from gateway.api.records import ConnectionsAnswer
from gateway.api.route import Route
from gateway.history.why import explain


async def connections(call: Call) -> web.StreamResponse:
    """The newest connections of a device; 404 when none is remembered."""
    account, device = call.identity.account, name_of(call)
    past = await call.api.past.read(account, device)
    known = await reachable(call.api.devices.describe(account, device))
    if not past.connections and known.connection is None and known.last_disconnect is None:
        raise Problem(404, "nothing is known of such a device")
    connection = None if known.connection is None else known.connection.connection
    why = explain(device, past.connections, call.api.clock.time_ms(), connection, known.last_disconnect)
    return answer(ConnectionsAnswer(device, why, past.connections, past.incomplete or None))


ROUTES = (
    Route(
        Operation(
            "GET",
            "/api/v1/devices/{device}/connections",
            "getConnections",
            "Its newest connections, how each ended, and why in words.",
            "device:read",
            Listener.OPERATIONS,
            ConnectionsAnswer,
            errors=(404, 503),
        ),
        connections,
    ),
)
