"""Outcomes as few and as small messages as they can be: alike ones merged, large ones split. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec.structs import replace

from gateway.protocol.messages import Ack, Nack, encode

# What is wrong with an event is told in a sentence; only an attribute's own name can make that long.
MAX_REASON_CHARACTERS = 200
# So many kinds of mistakes in one message are told apart.
MAX_KINDS = 16
_INDEX = re.compile(r"`\$\.events\[\d+\]")


def merged(nacks: Sequence[Nack]) -> list[Nack]:
    """One nack for all events of a message that are wrong in the same way; it names the place of the first of them."""
    kinds: dict[tuple[str, str, int | None], list[Nack]] = {}
    for nack in nacks:
        kind = (nack.code, _INDEX.sub("", nack.message), nack.retry_after_ms)
        if kind not in kinds and len(kinds) >= MAX_KINDS:
            kind = next(reversed(kinds))
        kinds.setdefault(kind, []).append(nack)
    return [_one_of(alike) for alike in kinds.values()]


def _one_of(alike: list[Nack]) -> Nack:
    first = alike[0]
    if len(alike) == 1:
        return first
    ids = [name for nack in alike for name in nack.ids]
    return replace(first, ids=ids, message=f"{first.message}; {len(alike) - 1} more are wrong, too")


def split(outcome: Ack | Nack, max_bytes: int) -> list[bytes]:
    """The outcome as messages of at most `max_bytes` each (512 at least), with all of its ids in their order."""
    if isinstance(outcome, Nack) and len(outcome.message) > MAX_REASON_CHARACTERS:
        outcome = replace(outcome, message=outcome.message[:MAX_REASON_CHARACTERS] + "…")
    whole = encode(outcome)
    if len(whole) <= max_bytes or len(outcome.ids) < 2:
        return [whole]
    empty_bytes = len(encode(replace(outcome, ids=())))
    messages: list[bytes] = []
    part: list[str] = []
    size = empty_bytes
    for name in outcome.ids:
        added = len(encode(name)) + 1
        if part and size + added > max_bytes:
            messages.append(encode(replace(outcome, ids=part)))
            part, size = [], empty_bytes
        part.append(name)
        size += added
    messages.append(encode(replace(outcome, ids=part)))
    return messages
