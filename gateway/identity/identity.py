"""Who a peer is, once its token has been verified."""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_NAME_BYTES = 128
# C0, DEL and C1. They draw on terminals and end lines of logs; stores cut names at U+0000.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")

SCOPES = frozenset(
    {
        "location:write",
        "location:read",
        "device:read",
        "device:write",
        "command:receive",
        "command:send",
        "progress:read",
        "workflow:read",
        "workflow:write",
        "metrics:read",
        "admin",
    }
)


class Identity(NamedTuple):
    """What a verified token says.

    `device` is its `sub` (a device or a client), `account` the tenant; `expires_s` is `exp` in seconds since the Unix
    epoch. `device_class` is "" when the token names none. `admin` among the scopes stands for all of them.
    """

    account: str
    device: str
    scopes: frozenset[str]
    expires_s: float
    device_class: str = ""

    def may(self, scope: str) -> bool:
        """Whether the token allows what `scope` stands for."""
        return scope in self.scopes or "admin" in self.scopes


def name_problem(name: str) -> str:
    """What is wrong with a device, account or class of this name; "" when nothing is."""
    # As nearly all are: one character a byte, none of them for control.
    if name.isascii() and name.isprintable() and len(name) <= MAX_NAME_BYTES:
        return ""
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"is longer than {MAX_NAME_BYTES} bytes"
    if _CONTROL.search(name):
        return "holds a control character"
    return ""
