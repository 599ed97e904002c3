"""Opening a websocket to a gateway, and what can be said when there is none."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, InvalidURI, WebSocketException
from websockets.typing import Subprotocol

from gateway.decoding import decoder
from gateway.device.reconnect import Stop, retry_after_s

SUBPROTOCOL = Subprotocol("heiwa.v1.json")
CLOSE_TIMEOUT_S = 2.0
# What a refused handshake may say about itself.
MAX_DETAIL_LENGTH = 300


class Refused(NamedTuple):
    """The server answered with something else than 101. `retry_after_s` None: it named no time."""

    status: int
    detail: str
    retry_after_s: float | None


class Unreached(NamedTuple):
    """No server answered; `why` is for a person."""

    why: str


class _Problem(msgspec.Struct):
    """The part of a problem (RFC 9457) that a person wants to read."""

    title: str = ""
    detail: str = ""


_problem = decoder(_Problem)


class _Connect(connect):
    """Takes a redirect for the refusal that it is: following it at once would be a try without a wait."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def dial(url: str, token: str, timeout_s: float, agent: str) -> ClientConnection | Refused | Unreached | Stop:
    """Open one. `Stop`: `url` is no address. Cancelled, nothing stays open."""
    try:
        return await _Connect(
            url,
            subprotocols=[SUBPROTOCOL],
            additional_headers={"Authorization": f"Bearer {token}"},
            compression=None,
            open_timeout=timeout_s,
            close_timeout=CLOSE_TIMEOUT_S,
            user_agent_header=agent,
        )
    except InvalidURI as error:
        return Stop(f"not a websocket address: {error}")
    except InvalidStatus as error:
        response = error.response
        times = response.headers.get_all("Retry-After")
        return Refused(response.status_code, _detail(response.body), retry_after_s(times))
    except (OSError, TimeoutError, WebSocketException) as error:
        return Unreached(_say(error))


def _detail(body: bytes | bytearray | None) -> str:
    try:
        problem = _problem(bytes(body or b""))
    except msgspec.DecodeError:
        return ""
    return (problem.detail or problem.title)[:MAX_DETAIL_LENGTH]


def _say(error: BaseException) -> str:
    """The shortest text that names what went wrong; asyncio's own repeats the address."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return str(error) or type(error).__name__
