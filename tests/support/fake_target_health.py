"""A TargetHealth that says what a test tells it to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from gateway.drain.health import GroupAttributes, GroupHealth, Membership, TargetState, place
from gateway.errors import CallError, CallErrorKind

GROUP = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/0123456789abcdef"
TARGET, PORT = "10.0.0.1", 8080


class FakeTargetHealth:
    """Answers from `groups`, `attributes_of` and `member`; raises `error`, or what `script` holds, oldest first.

    `script`: answers for the next calls of `health`, each a GroupHealth or a CallError; when it is empty, `groups`
    counts again. `asked` is called before every answer, so that a test can wait for a poll.
    """

    def __init__(self, states: Mapping[str, TargetState] | None = None) -> None:
        self.groups: dict[str, dict[str, TargetState]] = {GROUP: dict(states or {})}
        self.attributes_of: dict[str, GroupAttributes] = {}
        self.member = Membership(TARGET, {GROUP: PORT})
        self.error: CallError | None = None
        self.script: list[GroupHealth | CallError] = []
        self.asked: Callable[[], object] = lambda: None
        self.polls = 0
        self.closed = False

    def set(self, state: TargetState | None, group: str = GROUP, target: str = TARGET, port: int = PORT) -> None:
        """What the group says of a target; None: it is not registered."""
        key = place(target, port)
        if state is None:
            self.groups[group].pop(key, None)
        else:
            self.groups[group][key] = state

    def fail(self, kind: CallErrorKind | None) -> None:
        """Every call fails so from now on; None: no more."""
        self.error = None if kind is None else CallError(kind, f"a test says {kind}")

    async def membership(self) -> Membership:
        self._ask()
        return self.member

    async def attributes(self, group: str) -> GroupAttributes:
        self._ask()
        return self.attributes_of.get(group, GroupAttributes())

    async def health(self, group: str, target: str, port: int, also: Sequence[str] = ()) -> GroupHealth:
        self.polls += 1
        self._ask()
        if self.script:
            answer = self.script.pop(0)
            if isinstance(answer, CallError):
                raise answer
            return answer
        if group not in self.groups:
            raise CallError(CallErrorKind.NOT_FOUND, f"no target group {group}")
        targets = dict(self.groups[group])
        own = [targets[name] for name in (place(one, port) for one in (target, *also)) if name in targets]
        return GroupHealth(own[0] if own else None, targets)

    async def close(self) -> None:
        self.closed = True

    def _ask(self) -> None:
        self.asked()
        if self.error is not None:
            raise self.error
