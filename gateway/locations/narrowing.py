"""Finding out which events of a batch a store chokes on, so that one bad event costs only itself.

A store may raise something unforeseen. The batch is then written again by halves: first its groups, then the
events of a group. What still fails alone is at fault; everything else is stored.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence

from gateway.errors import StoreError
from gateway.locations.batch import DeviceEvents, count
from gateway.locations.outcome import Rejection

# One bad event of 4,000 takes 25 calls. Who has more than some twenty of them waits for the next batch or replay.
MAX_CALLS = 512

Answer = Mapping[int, Rejection] | Exception
Step = Generator[Sequence[DeviceEvents], Answer, dict[int, Rejection]]
_Part = tuple[int, Sequence[DeviceEvents]]


def narrow(groups: Sequence[DeviceEvents]) -> Step:
    """Yields what to write next and is sent the answer, or the exception; returns what was not stored, by position.

    An event that fails alone is poison. After `MAX_CALLS` what is left is refused without being poison. A StoreError
    is the store's own fault: sent for the whole batch it is raised, for a part it refuses that part.
    """
    rejections: dict[int, Rejection] = {}
    parts: list[_Part] = [(0, groups)]
    calls = 0
    last: Exception | None = None
    while parts:
        position, part = parts.pop()
        if calls >= MAX_CALLS:
            rejections |= _all_of(position, part, Rejection(f"too many events of this batch fail: {_text(last)}"))
            continue
        calls += 1
        answer = yield part
        if not isinstance(answer, Exception):
            rejections.update((position + offset, rejection) for offset, rejection in answer.items())
        elif isinstance(answer, StoreError):
            if calls == 1:
                raise answer
            rejections |= _all_of(position, part, Rejection(str(answer)))
        elif count(part):
            last = answer
            halves = _halves(position, part)
            if not halves:
                rejections[position] = Rejection(_text(answer), poison=True)
            # The first half is written first: a device's events stay in order.
            parts += reversed(halves)
    return rejections


def write_narrowed(
    groups: Sequence[DeviceEvents], write: Callable[[Sequence[DeviceEvents]], Mapping[int, Rejection]]
) -> Mapping[int, Rejection]:
    """`write`, narrowed down when it raises something unexpected. Raises StoreError for the whole."""
    steps = narrow(groups)
    part = next(steps)
    while True:
        try:
            answer: Answer = write(part)
        except Exception as error:
            answer = error
        try:
            part = steps.send(answer)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]


async def write_narrowed_async(
    groups: Sequence[DeviceEvents], write: Callable[[Sequence[DeviceEvents]], Awaitable[Mapping[int, Rejection]]]
) -> Mapping[int, Rejection]:
    """The same for a store that is awaited. Cancelled, it writes nothing more."""
    steps = narrow(groups)
    part = next(steps)
    while True:
        try:
            answer: Answer = await write(part)
        except Exception as error:
            answer = error
        try:
            part = steps.send(answer)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]


def _all_of(position: int, part: Sequence[DeviceEvents], rejection: Rejection) -> dict[int, Rejection]:
    return dict.fromkeys(range(position, position + count(part)), rejection)


def _halves(position: int, part: Sequence[DeviceEvents]) -> list[_Part]:
    """A part in two, each with the position of its first event; empty for a single event."""
    if len(part) > 1:
        middle = len(part) // 2
        first, second = part[:middle], part[middle:]
        return [(position, first), (position + count(first), second)]
    (group,) = part
    middle = len(group.events) // 2
    if middle == 0:
        return []
    return [
        (position, (DeviceEvents(group.account, group.device, group.events[:middle]),)),
        (position + middle, (DeviceEvents(group.account, group.device, group.events[middle:]),)),
    ]


def _text(error: Exception | None) -> str:
    return f"{type(error).__name__}: {error}"[:200]
