"""How connections end: every cause with its name, and the phases from open to gone as one table. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final, NamedTuple

from gateway.wire import close_codes


class Cause(NamedTuple):
    """Why a connection ends.

    `name` is its label in log and metrics. `code` 0: the class of the device decides, or the peer's close frame.
    `announced` is the reason in `goaway`; "": this end is not announced.
    """

    name: str
    code: int = 0
    announced: str = ""


DRAIN: Final = Cause("drain", announced="drain")
SHIFT: Final = Cause("shift", announced="shift")
SHUTDOWN: Final = Cause("shutdown", announced="shutdown")
MAX_AGE: Final = Cause("max_age", announced="max_age")
TOKEN_EXPIRED: Final = Cause("token_expired", close_codes.TOKEN, "token_expired")
REPLACED: Final = Cause("replaced", close_codes.REPLACED, "replaced")
REPLACED_ELSEWHERE: Final = Cause("replaced_elsewhere", close_codes.REPLACED, "replaced")
OPERATOR: Final = Cause("operator", announced="disconnected")
TOKEN: Final = Cause("token", close_codes.TOKEN)
FORBIDDEN: Final = Cause("forbidden", close_codes.FORBIDDEN)
DUPLICATE: Final = Cause("duplicate", close_codes.FORBIDDEN)
HEARTBEAT_TIMEOUT: Final = Cause("heartbeat_timeout", close_codes.HEARTBEAT_TIMEOUT)
INTERNAL_ERROR: Final = Cause("internal_error", close_codes.INTERNAL_ERROR)
PROTOCOL: Final = Cause("protocol")
CLOSED_BY_PEER: Final = Cause("closed_by_peer")
EOF: Final = Cause("eof", close_codes.ABNORMAL)
RESET: Final = Cause("reset", close_codes.ABNORMAL)
TIMED_OUT: Final = Cause("timed_out", close_codes.ABNORMAL)
BROKEN: Final = Cause("broken", close_codes.ABNORMAL)


def failure(code: int) -> Cause:
    """The peer broke a rule, and is told so with this close code."""
    return Cause(close_codes.name_of(code), code)


def breakage(error: Exception | None) -> Cause:
    """The connection was lost without a close frame; `error` is what the transport says."""
    if error is None:
        return EOF
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return RESET
    return TIMED_OUT if isinstance(error, TimeoutError) else BROKEN


class Ending:
    """What is known of the end of one connection, from the decision to the last moment.

    `code` is the close code, 0 while it is open. `words`: an operator's own ("": the cause says it all). `by_peer`: the
    close frame of the peer began it. `goaway`: the announcement that is still to be sent. `sent_away`: it was asked to
    leave, and nothing went wrong with that. `by_reset`: it sees no close frame.
    """

    __slots__ = ("by_peer", "by_reset", "cause", "code", "goaway", "sent_away", "words")

    def __init__(
        self, cause: Cause, code: int = 0, words: str = "", *, by_peer: bool = False, goaway: bytes | None = None
    ) -> None:
        self.cause = cause
        self.code = code or cause.code
        self.words = words
        self.by_peer = by_peer
        self.by_reset = False
        self.goaway = goaway
        self.sent_away = goaway is not None

    @property
    def reason(self) -> str:
        """Why, for people: the operator's words, else the name of the cause."""
        return self.words or self.cause.name


# The phases of a connection. They are numbers in one integer with the reasons to pause, since the hot path asks for
# all of that at once; their order lets one comparison say what is still allowed.
OPEN: Final = 0
LEAVING: Final = 1
EXPIRING: Final = 2
# From here on nothing but the first message may leave.
GREETING: Final = 3
UNANNOUNCED: Final = 4
# From here on nothing that the peer sends is understood.
RESETTING: Final = 5
# From here on no message may leave.
CLOSING: Final = 6
ENDED: Final = 7
PHASE: Final = 7

PHASES: Mapping[int, tuple[str, str]] = {
    GREETING: ("greeting", "the answer 101 is out, the first message is not, and nothing may leave before that"),
    OPEN: ("open", "messages go both ways"),
    UNANNOUNCED: ("unannounced", "asked to leave while greeting: `goaway` follows the first message"),
    LEAVING: ("leaving", "asked to leave; it closes once the answers in flight are out"),
    EXPIRING: ("expiring", "its token is about to end; it closes unless a new one comes in time"),
    RESETTING: ("resetting", "what was written has a moment to get out before the reset; nothing more is read"),
    CLOSING: ("closing", "a close frame is out, or the peer has ended its side"),
    ENDED: ("ended", "nothing more is read or written: only the end of the transport is missing"),
}


class Step(Enum):
    """What happens to a connection."""

    GREETED = "greeted"
    DEFERRED = "asked to leave"
    ASKED = "told to leave"
    EXPIRES = "told that its token ends"
    RENEWED = "a new token came"
    RESET = "begins to be reset"
    CLOSED = "a close frame leaves, or the peer ends"
    DONE = "all is out, or the transport is gone"


_ALIVE = (OPEN, GREETING, UNANNOUNCED, LEAVING, EXPIRING)
# What is still to happen to a connection that nobody has asked to leave.
STAYS: Final = (OPEN, GREETING)
TABLE: Mapping[tuple[int, Step], int] = {
    (GREETING, Step.GREETED): OPEN,
    (GREETING, Step.DEFERRED): UNANNOUNCED,
    **{(phase, Step.ASKED): LEAVING for phase in (OPEN, UNANNOUNCED)},
    **{(phase, Step.EXPIRES): EXPIRING for phase in (OPEN, UNANNOUNCED)},
    (EXPIRING, Step.RENEWED): OPEN,
    **{(phase, Step.RESET): RESETTING for phase in _ALIVE},
    **{(phase, Step.CLOSED): CLOSING for phase in (*_ALIVE, RESETTING, CLOSING)},
    (ENDED, Step.CLOSED): ENDED,
    **{(phase, Step.DONE): ENDED for phase in PHASES},
}


def diagram() -> str:
    """The table as a Mermaid state diagram, without what can end any of them."""
    lines = ["stateDiagram-v2", f"    [*] --> {PHASES[GREETING][0]}"]
    for (phase, step), following in TABLE.items():
        if phase != following and step is not Step.DONE:
            lines.append(f"    {PHASES[phase][0]} --> {PHASES[following][0]}: {step.value}")
    ended = [f"    {PHASES[phase][0]} --> {PHASES[ENDED][0]}: {Step.DONE.value}" for phase in (RESETTING, CLOSING)]
    return "\n".join([*lines, *ended, f"    {PHASES[ENDED][0]} --> [*]"])
