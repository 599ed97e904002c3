"""An operation together with the code that performs it. Each part of the API has one table of them, `ROUTES`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from aiohttp import web

from gateway.api.call import Call
from gateway.api.operation import Operation

Handler = Callable[[Call], Awaitable[web.StreamResponse]]


class Route(NamedTuple):
    """An operation and what performs it."""

    operation: Operation
    handler: Handler
