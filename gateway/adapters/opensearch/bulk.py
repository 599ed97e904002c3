"""Bulk requests: documents in, what became of each out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from random import Random

from msgspec import Struct, field, json

from gateway.adapters.opensearch.connection import Connection, NoAnswerError, Response
from gateway.clock import Clock
from gateway.errors import StoreError
from gateway.locations.bulk_delivery import Attempt, Delivery, deliver
from gateway.locations.bulk_outcome import Answer, Item, Silence
from gateway.locations.congestion import RetryBudget, Window
from gateway.locations.document import Lines, encode_lines
from gateway.locations.packing import BULK_BYTES

# Positions in the answer have to stay those of the request, so every item sends its status.
_ANSWER = "errors,items.*.status,items.*.error.type,items.*.error.reason,error.type,error.reason,error.bytes_wanted,"
_ANSWER += "error.bytes_limit,error.durability,status,Message,message"
# No pipeline of an index: identity is made here. The overflow index's pipeline is for Firehose alone.
QUERY = {"pipeline": "_none", "filter_path": _ANSWER}
PATH = "/_bulk"
_RETRY_PAUSE_S = 0.25
_CLEAN, _CREATED, _REPLACED = b'{"errors":false', b'{"create":{"status":201}}', b'{"index":{"status":20'


class _Error(Struct):
    type: str = ""
    reason: str | None = None
    bytes_wanted: int = 0
    bytes_limit: int = 0
    durability: str = ""


class _Result(Struct):
    status: int
    error: _Error | None = None


class _Item(Struct):
    create: _Result | None = None
    index: _Result | None = None


class _Body(Struct):
    errors: bool = False
    items: list[_Item] | None = None
    error: _Error | str | None = None
    message: str = ""
    other_message: str = field(default="", name="Message")


_decode = json.Decoder(_Body).decode


class Extra(Struct):
    """Lines sent behind the documents, whose fate is told apart: `taken` says whether all of them were."""

    lines: Sequence[Lines] = ()
    taken: bool = False


class Bulk:
    """Sends documents until each is decided. Calls may overlap."""

    def __init__(self, connection: Connection, clock: Clock, random: Random, window: Window) -> None:
        self._connection = connection
        self._clock = clock
        self._random = random
        self._window = window
        self._budget = RetryBudget()
        self._in_flight = 0
        self.seen: Callable[[Answer, float], None] = lambda answer, seconds: None

    async def send(self, lines: Sequence[Lines], extra: Extra) -> Delivery:
        """What became of the documents, by position. Cancelled, any of them may be stored."""
        self._budget.sent(len(lines))
        steps = deliver(len(lines), self._budget.take)
        try:
            attempt = next(steps)
            while True:
                attempt = steps.send(await self._attempt(lines, attempt, extra))
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]

    async def _attempt(self, lines: Sequence[Lines], attempt: Attempt, extra: Extra) -> Answer:
        if attempt.again:
            await asyncio.sleep(self._random.uniform(0.0, _RETRY_PAUSE_S))
        positions = attempt.positions
        documents = lines if len(positions) == len(lines) else [lines[position] for position in positions]
        # With the first request only: they matter less than any document.
        behind = extra.lines if documents is lines and not attempt.again else ()
        body = encode_lines([*documents, *behind])
        if len(body) > BULK_BYTES:
            return Answer(413, reason="the request is larger than we send")
        self._in_flight += 1
        began_s = self._clock.monotonic_s()
        try:
            # Who cannot unpack a body says so in many ways, or not at all.
            plain = attempt.again
            response = await self._connection.request("POST", PATH, body, query=QUERY, lines=True, compress=not plain)
            answer = read(response, len(positions), extra if behind else None)
        except NoAnswerError as error:
            answer = Answer(silence=error.silence, reason=str(error))
        finally:
            full = self._in_flight >= self._window.batches
            self._in_flight -= 1
        self._learn(answer, began_s, len(positions), full=full)
        return answer

    def _learn(self, answer: Answer, began_s: float, number: int, *, full: bool) -> None:
        now_s = self._clock.monotonic_s()
        busy = answer.status == 429 or any(item.status == 429 for item in answer.items or ())
        if busy or answer.silence is Silence.TIMEOUT:
            self._window.refused(now_s)
        elif answer.silence is None:
            self._window.taken(now_s, now_s - began_s, number, full=full)
        self.seen(answer, now_s - began_s)


def read(response: Response, number: int, extra: Extra | None = None) -> Answer:
    """The answer to a request with this number of documents, and `extra` behind them.

    When every document is new, and nothing went wrong, nothing is decoded.
    """
    body = response.body
    behind = len(extra.lines) if extra is not None else 0
    clean = response.status == 200 and body.startswith(_CLEAN)
    if clean and body.count(_CREATED) == number and body.count(_REPLACED) == behind:
        if extra is not None:
            extra.taken = True
        return Answer(stored=True)
    try:
        found = response.decoded(_decode) if body else _Body()
    except StoreError:
        if response.status == 200:
            return Answer(silence=Silence.UNREADABLE, reason="it is not the JSON of a bulk answer")
        return Answer(response.status, reason=body[:200].decode(errors="replace"))
    if response.status == 200:
        return _items(found, number, extra)
    return _failed(response.status, found)


def _items(found: _Body, number: int, extra: Extra | None) -> Answer:
    items = found.items or []
    behind = len(extra.lines) if extra is not None else 0
    created, replaced = [item.create for item in items[:number]], [item.index for item in items[number:]]
    # They carry no names: only in their places do they say whose they are.
    if len(items) != number + behind or None in created or None in replaced:
        return Answer(silence=Silence.UNREADABLE, reason="its items are not those that were sent")
    if extra is not None:
        # 409: a newer position is there.
        extra.taken = all(result is not None and result.status in (200, 201, 409) for result in replaced)
    return Answer(items=[_item(result) for result in created if result is not None])


def _item(result: _Result) -> Item:
    if result.error is None:
        return Item(result.status)
    return Item(result.status, result.error.type, result.error.reason or "")


def _failed(status: int, found: _Body) -> Answer:
    error = found.error
    if isinstance(error, str):
        # Elasticsearch 1 and what stands in front of a cluster.
        return Answer(status, reason=error)
    if error is None:
        return Answer(status, reason=found.message or found.other_message)
    never = error.durability == "PERMANENT" or 0 < error.bytes_limit < error.bytes_wanted
    too_large = error.type == "circuit_breaking_exception" and never and "[parent]" not in (error.reason or "")
    return Answer(status, kind=error.type, reason=error.reason or "", too_large=too_large)
