"""What becomes of an answer to a bulk request, and of each of its items: one table.

The statuses and types are those that OpenSearch 2 and 3 answered (tests/faults/test_opensearch_faults.py). Good data
never goes to the dead letters: what is unknown is kept and tried again.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

from msgspec import Struct


class Action(Enum):
    """What to do with a document."""

    STORED = "stored"
    # Another way to the index may take it: the index is only busy.
    OVERFLOW = "overflow"
    # The same document again, once and within the budget; then OVERFLOW. It is one document, however often it arrives.
    RETRY = "retry"
    # The index cannot be used until it is mended: keep the events on disk.
    STOP = "stop"
    # One of several is at fault, or they are too large together: in halves. A single one is POISON.
    SPLIT = "split"
    # No index will ever take it.
    POISON = "poison"


class Silence(Enum):
    """Why there was no answer."""

    NOT_SENT = "no connection"
    UNSIGNED = "the request could not be signed"
    TIMEOUT = "no answer in time"
    BROKEN = "the connection ended before the answer"
    UNREADABLE = "the answer could not be read"


class Item(NamedTuple):
    """One item of an answer. `kind` and `reason` are those of its error, empty without one."""

    status: int
    kind: str = ""
    reason: str = ""


class Answer(Struct, frozen=True):
    """An answer to a bulk request.

    `items` is None when the request failed as a whole. `stored`: every document was, so no item was looked at.
    `too_large`: the server says that this many bytes at once will never fit.
    """

    status: int = 200
    items: list[Item] | None = None
    kind: str = ""
    reason: str = ""
    stored: bool = False
    too_large: bool = False
    silence: Silence | None = None

    @property
    def text(self) -> str:
        """What was wrong, for a log and for the dead letters."""
        if self.silence is not None:
            return f"{self.silence.value}{': ' if self.reason else ''}{self.reason}"
        return describe(Item(self.status, self.kind, self.reason))


class Row(NamedTuple):
    """A line of the table. `kinds` and `reason` None: any."""

    statuses: range
    kinds: frozenset[str] | None
    reason: re.Pattern[str] | None
    action: Action

    def fits(self, item: Item) -> bool:
        """Whether this is the line of that item."""
        return (
            item.status in self.statuses
            and (self.kinds is None or item.kind in self.kinds)
            and (self.reason is None or self.reason.search(item.reason) is not None)
        )


def _row(statuses: int | range, kinds: str, reason: str, action: Action) -> Row:
    return Row(
        range(statuses, statuses + 1) if isinstance(statuses, int) else statuses,
        frozenset(kinds.split()) if kinds else None,
        re.compile(reason, re.IGNORECASE) if reason else None,
        action,
    )


# What OpenSearch shows of a document: a position is nobody's business but its account's.
_PREVIEW = re.compile(r"\.? *Preview of field's value:.*", re.DOTALL)
_SERVER_ERRORS = range(500, 600)
# Whatever a server calls a status.
_ANY = range(-(1 << 63), 1 << 63)
_POISON = "mapper_parsing_exception strict_dynamic_mapping_exception document_parsing_exception"
# AWS says it so when a domain is asked too much.
_THROTTLED = r"throttl|too many requests|request rate"

# The first line that fits decides.
ITEMS: tuple[Row, ...] = (
    _row(201, "", "", Action.STORED),
    _row(409, "version_conflict_engine_exception", "", Action.STORED),
    _row(409, "", "", Action.RETRY),
    _row(429, "", "", Action.OVERFLOW),
    _row(403, "", _THROTTLED, Action.OVERFLOW),
    _row(400, _POISON, "", Action.POISON),
    # A document of its own making, unlike a missing pipeline, too many shards or a closed index.
    _row(400, "illegal_argument_exception", "immense term|immense field", Action.POISON),
    _row(_SERVER_ERRORS, "", "", Action.RETRY),
    # 200 to a create is a document that a pipeline dropped; 400, 401, 403, 404 are ours or the cluster's fault.
    _row(_ANY, "", "", Action.STOP),
)
REQUESTS: tuple[Row, ...] = (
    _row(429, "", "", Action.OVERFLOW),
    _row(403, "", _THROTTLED, Action.OVERFLOW),
    _row(413, "", "", Action.SPLIT),
    _row(415, "", "", Action.RETRY),
    # What arrived is not what was sent: OpenSearch 2.17.0 says so of each compressed body.
    _row(400, "illegal_argument_exception", "terminated by a newline", Action.RETRY),
    # One item of the request is at fault, and the answer does not say which.
    _row(400, "action_request_validation_exception", "", Action.SPLIT),
    _row(_SERVER_ERRORS, "", "", Action.RETRY),
    _row(_ANY, "", "", Action.STOP),
)
SILENCES: dict[Silence, Action] = {
    Silence.NOT_SENT: Action.RETRY,
    # The credentials of the task are away; Firehose would ask for the same.
    Silence.UNSIGNED: Action.STOP,
    # A server that timed out is not asked again at once; what it may have stored is stored once all the same.
    Silence.TIMEOUT: Action.OVERFLOW,
    Silence.BROKEN: Action.RETRY,
    Silence.UNREADABLE: Action.RETRY,
}


def of_item(item: Item) -> Action:
    """What becomes of one document of a `create`."""
    return next(row.action for row in ITEMS if row.fits(item))


def of_request(answer: Answer) -> Action:
    """What becomes of every document of a request that failed as a whole."""
    if answer.silence is not None:
        return SILENCES[answer.silence]
    if answer.status == 429 and answer.too_large:
        return Action.SPLIT
    return next(row.action for row in REQUESTS if row.fits(Item(answer.status, answer.kind, answer.reason)))


def describe(item: Item) -> str:
    """An item's error in one line of at most 300 characters, without a field's value."""
    if item.status == 200:
        return "a pipeline of the index dropped the document"
    said = (f"HTTP {item.status} {item.kind}".rstrip(), _PREVIEW.sub("", item.reason))
    return ": ".join(filter(None, said))[:300]
