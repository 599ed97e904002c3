"""Sending documents until each is decided: what to send next, as a generator that is fed with answers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple

from msgspec import Struct, field

from gateway.locations.bulk_outcome import Action, Answer, Item, Silence, describe, of_item, of_request
from gateway.locations.outcome import Rejection

# Who has more documents at fault in one call waits for the next.
MAX_CALLS = 128
_UNCOUNTED = Answer(silence=Silence.UNREADABLE, reason="it holds another number of items than were sent")


class Attempt(NamedTuple):
    """Send these documents. `again`: after a pause, for it is a retry."""

    positions: Sequence[int]
    again: bool = False


class Delivery(Struct):
    """What became of all documents, by position; those in neither of both are stored, and were new."""

    rejections: dict[int, Rejection] = field(default_factory=dict)
    duplicates: set[int] = field(default_factory=set)


def deliver(number: int, may_retry: Callable[[int], bool]) -> Generator[Attempt, Answer, Delivery]:
    """Yields what to send and is sent the answer; returns when all `number` documents are decided.

    `may_retry` is asked whether this number of documents may be sent once more.
    """
    found = Delivery()
    work = [Attempt(range(number))] if number else []
    calls = 0
    while work:
        attempt = work.pop()
        if calls >= MAX_CALLS:
            reject(found, attempt.positions, Action.STOP, "too many documents of this batch fail")
            continue
        calls += 1
        answer = yield attempt
        if not answer.stored:
            # The first half is sent first: a device's events stay in order.
            work += reversed(_decide(found, attempt, answer, may_retry))
    return found


def _decide(found: Delivery, attempt: Attempt, answer: Answer, may_retry: Callable[[int], bool]) -> list[Attempt]:
    """Note what is decided; what has to be sent again."""
    if answer.items is None:
        return _act(found, attempt, attempt.positions, of_request(answer), answer.text, may_retry)
    if len(answer.items) != len(attempt.positions):
        return _act(found, attempt, attempt.positions, of_request(_UNCOUNTED), _UNCOUNTED.text, may_retry)
    kept: dict[Action, list[tuple[int, Item]]] = {}
    for position, item in zip(attempt.positions, answer.items, strict=True):
        if item.status != 201:
            kept.setdefault(of_item(item), []).append((position, item))
    again: list[Attempt] = []
    for action, members in kept.items():
        if action is Action.STORED:
            found.duplicates.update(position for position, _ in members)
        elif action is Action.RETRY:
            positions = [position for position, _ in members]
            again += _act(found, attempt, positions, action, describe(members[0][1]), may_retry)
        else:
            for position, item in members:
                reject(found, (position,), action, describe(item))
    return again


def _act(
    found: Delivery,
    attempt: Attempt,
    positions: Sequence[int],
    action: Action,
    reason: str,
    may_retry: Callable[[int], bool],
) -> list[Attempt]:
    if action is Action.RETRY:
        if not attempt.again and may_retry(len(positions)):
            return [Attempt(positions, again=True)]
        action = Action.OVERFLOW
    if action is Action.SPLIT:
        middle = len(positions) // 2
        if middle:
            return [Attempt(positions[:middle], attempt.again), Attempt(positions[middle:], attempt.again)]
        action = Action.POISON
    reject(found, positions, action, reason)
    return []


def reject(found: Delivery, positions: Sequence[int], action: Action, reason: str) -> None:
    """These documents are not stored: OVERFLOW, STOP or POISON says where they may go."""
    rejection = Rejection(reason, poison=action is Action.POISON, overflow=action is Action.OVERFLOW)
    found.rejections.update(dict.fromkeys(positions, rejection))
