"""Why there are no events of a channel, or no more: the codes of `error` that name a channel. Pure."""

from __future__ import annotations

from enum import StrEnum


class Refusal(StrEnum):
    """`TOO_LARGE` and the two of offsets end nothing: the events go on after what was left out."""

    NOT_FOUND = "not_found"
    FORBIDDEN = "forbidden"
    TOO_MANY = "too_many"
    OVERLOADED = "overloaded"
    UNAVAILABLE = "unavailable"
    OFFSET_TOO_OLD = "offset_too_old"
    OFFSET_TOO_NEW = "offset_too_new"
    TOO_LARGE = "too_large"


MEANINGS: dict[Refusal, str] = {
    Refusal.NOT_FOUND: "there is no such channel in the token's account; another account's is answered in the same way",
    Refusal.FORBIDDEN: "the token lacks the scope that the message names",
    Refusal.TOO_MANY: "the connection has `channels.maximum_per_connection` subscriptions",
    Refusal.OVERLOADED: "the gateway is short of memory; subscribe again later",
    Refusal.UNAVAILABLE: "what the channel holds cannot be read now; subscribe again later",
    Refusal.OFFSET_TOO_OLD: "events after that offset are not kept any more; `subscribed` with a snapshot follows, and "
    "the events after it",
    Refusal.OFFSET_TOO_NEW: "that offset was not given out yet: the log is another one; `subscribed` with a snapshot "
    "follows, and the events after it",
    Refusal.TOO_LARGE: "an event was left out, because it is larger than the client's class can take",
}
