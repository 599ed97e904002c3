"""Why a websocket was closed: every code we send or see, who may reconnect and when, and whose fault it was.

RFC 6455, 7.4, and the range 4000–4999 for our own. The table in docs/ is made from this one.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Reconnect(StrEnum):
    """What the client may do after this close."""

    AT_ONCE = "at once"
    AFTER = "after the time given in goaway, else with back-off"
    BACK_OFF = "with exponential back-off and jitter"
    NEW_TOKEN = "with a new token"  # noqa: S105 - not a secret
    NEVER = "never by itself"


class Fault(StrEnum):
    """Whose fault a disconnect was, for logs and metrics."""

    PEER = "peer"
    US = "us"
    NETWORK = "network"
    PLAN = "plan"


class CloseCode(NamedTuple):
    code: int
    name: str
    meaning: str
    reconnect: Reconnect
    fault: Fault


_TABLE = (
    CloseCode(1000, "normal", "the client is done", Reconnect.AT_ONCE, Fault.PEER),
    CloseCode(1001, "going_away", "planned: this server leaves, see goaway", Reconnect.AFTER, Fault.PLAN),
    CloseCode(1002, "protocol_error", "a frame broke RFC 6455", Reconnect.BACK_OFF, Fault.PEER),
    CloseCode(1003, "unsupported_data", "a binary frame; only text is understood", Reconnect.BACK_OFF, Fault.PEER),
    CloseCode(1005, "no_status", "the client closed without a code", Reconnect.AT_ONCE, Fault.PEER),
    CloseCode(1006, "abnormal", "the connection broke without a close frame", Reconnect.BACK_OFF, Fault.NETWORK),
    CloseCode(1007, "invalid_data", "a text frame that is not UTF-8", Reconnect.BACK_OFF, Fault.PEER),
    CloseCode(1008, "policy_violation", "refused by policy", Reconnect.NEVER, Fault.PEER),
    CloseCode(1009, "message_too_big", "a message of too many bytes or fragments", Reconnect.BACK_OFF, Fault.PEER),
    CloseCode(1011, "internal_error", "the server failed", Reconnect.BACK_OFF, Fault.US),
    CloseCode(1012, "service_restart", "as 1001, for classes that ask for it", Reconnect.AFTER, Fault.PLAN),
    CloseCode(1013, "try_again_later", "the server is overloaded", Reconnect.BACK_OFF, Fault.US),
    CloseCode(4400, "invalid_messages", "repeated invalid messages", Reconnect.BACK_OFF, Fault.PEER),
    CloseCode(4401, "token", "the token is missing, bad or expired", Reconnect.NEW_TOKEN, Fault.PEER),
    CloseCode(4403, "forbidden", "the new token is of another device or account", Reconnect.NEW_TOKEN, Fault.PEER),
    CloseCode(
        4408,
        "heartbeat_timeout",
        "the peer did not answer a ping, or did not end a message within a heartbeat",
        Reconnect.BACK_OFF,
        Fault.NETWORK,
    ),
    CloseCode(4409, "replaced", "a newer connection of this device took over", Reconnect.NEVER, Fault.PLAN),
    CloseCode(4429, "rate", "more messages or frames than allowed", Reconnect.BACK_OFF, Fault.PEER),
    CloseCode(4503, "slow_consumer", "the peer reads too slowly", Reconnect.BACK_OFF, Fault.PEER),
)

CLOSE_CODES: dict[int, CloseCode] = {entry.code: entry for entry in _TABLE}

NORMAL = 1000
PROTOCOL_ERROR = 1002
UNSUPPORTED_DATA = 1003
NO_STATUS = 1005
ABNORMAL = 1006
INVALID_DATA = 1007
MESSAGE_TOO_BIG = 1009
INTERNAL_ERROR = 1011
INVALID_MESSAGES = 4400
TOKEN = 4401
FORBIDDEN = 4403
HEARTBEAT_TIMEOUT = 4408
REPLACED = 4409
RATE = 4429
SLOW_CONSUMER = 4503

# A device that is reset for one of these learns nothing from it, and would send the same again as soon as it is back.
REPEATS = frozenset(
    (PROTOCOL_ERROR, UNSUPPORTED_DATA, INVALID_DATA, MESSAGE_TOO_BIG, INVALID_MESSAGES, TOKEN, FORBIDDEN)
)


def fault_of(code: int, *, by_peer: bool = False) -> Fault:
    """Whose fault a close with this code is. `by_peer`: the peer's close frame began it, whatever its code says."""
    entry = CLOSE_CODES.get(code)
    return entry.fault if entry and not by_peer else Fault.PEER


def name_of(code: int) -> str:
    """A bounded label for metrics."""
    entry = CLOSE_CODES.get(code)
    return entry.name if entry else "other"
