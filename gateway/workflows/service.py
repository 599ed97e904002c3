"""What others ask of workflows: definitions, runs and their events. The account is always the caller's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from random import Random
from typing import Any, NamedTuple, Protocol

from gateway.clock import Clock
from gateway.errors import HeiwaError, TooManyRunsError
from gateway.wire.uuid7 import text_of, uuid7
from gateway.workflows.checks import Rules, check
from gateway.workflows.creation import Creation
from gateway.workflows.definition import Definition, digest, load, stored
from gateway.workflows.fields import decode
from gateway.workflows.json_source import read_json
from gateway.workflows.ports import NodeRunner, WorkflowStore
from gateway.workflows.records import (
    Created,
    EventRecord,
    LineRecord,
    NewRun,
    NotCreated,
    RunDetail,
    RunSummary,
    SignalKind,
    StoredDefinition,
)
from gateway.workflows.schedule import ms_of
from gateway.workflows.source import MAX_SOURCE_BYTES, DefinitionError, Located, Mistake, Place
from gateway.workflows.states import RunStatus, is_run_over

# Whoever has no hint that something was stored looks this often.
POLL_S = 1.0
# How long who tells a run something waits until it was heard.
HEARD_S = 5.0


class RunRefusedError(HeiwaError):
    """A run cannot be begun, or not be told that. `missing`: there is no such thing in this account."""

    def __init__(self, problem: str, *, missing: bool = False, conflict: bool = False) -> None:
        super().__init__(problem)
        self.missing = missing
        self.conflict = conflict


class Schedules(Protocol):
    """What an adapter knows of cron expressions and time zones."""

    def problem(self, cron: str, time_zone: str) -> str:
        """What is wrong with them; "" when nothing is."""

    def times(self, cron: str, time_zone: str, after_ms: int, until_ms: int, limit: int) -> list[datetime]:
        """The times behind `after_ms`, up to `until_ms` and the first one behind it; `limit` at most."""


class Put(NamedTuple):
    """`stored` None: it was only looked at."""

    definition: Definition
    stored: StoredDefinition | None


class WorkflowService:
    """`read_yaml` and `schedules` are adapters'. `manager` is the one of this process, told by `notice` of what it
    should hear, and by `begin` of new runs; None: there is none here."""

    def __init__(
        self,
        store: WorkflowStore,
        runners: Mapping[str, NodeRunner],
        clock: Clock,
        chance: Random,
        read_yaml: Callable[[str], Located],
        schedules: Schedules,
        manager: Callable[[], str | None],
        notice: Callable[[], None],
        begin: Callable[[NewRun, int], None],
    ) -> None:
        self._store = store
        self._runners = runners
        self._clock = clock
        self._chance = chance
        self._read_yaml = read_yaml
        self._schedules = schedules
        self._creation = Creation(store, manager, begin)
        self._notice = notice
        self._watchers: dict[str, set[asyncio.Event]] = {}

    # Definitions

    async def put(self, account: str, text: str, *, yaml: bool, admin: bool, dry_run: bool) -> Put:
        """Check a definition and store it, or (`dry_run`) only check it. Raises DefinitionError, StoreError."""
        if len(text.encode()) > MAX_SOURCE_BYTES:
            raise DefinitionError([Mistake(Place(1, 1), "", f"is larger than {MAX_SOURCE_BYTES:,} bytes")])
        # Large ones take a tenth of a second.
        source = await asyncio.to_thread(self._read_yaml if yaml else read_json, text)
        nested = await self._known(account, source)
        rules = Rules(
            lambda runner, work: self._work_problem(account, runner, work, admin), nested, self._schedules.problem
        )
        definition = await asyncio.to_thread(check, source, rules)
        if dry_run:
            return Put(definition, None)
        spec = stored(definition.spec)
        now_ms = self._clock.time_ms()
        name, schedule = definition.spec.name, definition.spec.schedule
        next_ms = None
        if schedule is not None:
            following = self._schedules.times(schedule.cron, schedule.time_zone, now_ms, now_ms, 1)
            next_ms = ms_of(following[0]) if following else None
        kept = await self._store.put_definition(account, name, spec, digest(spec), now_ms, next_ms)
        return Put(definition, kept)

    async def _known(self, account: str, source: Located) -> Callable[[str], str]:
        """Says of a name what is wrong with nesting it."""
        spec = decode(source).spec
        nodes = {} if spec is None else spec.nodes
        names = {node.workflow.name for node in nodes.values() if node.workflow}
        known = {name for name in names if await self._store.definition(account, name) is not None}
        return lambda name: "" if name in known else f"there is no definition {name!r}; put that first"

    def _work_problem(self, account: str, runner: str, work: Mapping[str, Any], admin: bool) -> str:
        found = self._runners.get(runner)
        if found is None:
            on = ", ".join(sorted(self._runners)) or "none"
            return f"the runner {runner} is off here; on are {on} (workflows.runners)"
        if found.for_admins and not admin:
            return f"the runner {runner} is for tokens with the scope admin: what it does, it does on this machine"
        return found.problem(account, work)

    async def definition(self, account: str, name: str, version: int | None) -> tuple[StoredDefinition, Definition]:
        """One version, or the newest one. Raises RunRefusedError where there is none."""
        found = await self._store.definition(account, name, version)
        if found is None:
            which = f"version {version} of " if version is not None else ""
            raise RunRefusedError(f"there is no {which}definition {name!r}", missing=True)
        return found, load(found.spec)

    async def definitions(self, account: str, after: str, limit: int) -> list[StoredDefinition]:
        """The newest version of each, by name."""
        return await self._store.definitions(account, after, limit)

    # Runs

    async def create(
        self, account: str, name: str, version: int | None, given: Mapping[str, Any], key: str | None
    ) -> Created:
        """Begin a run.

        Raises RunRefusedError: no such definition, or the key was used for another run; TooManyRunsError.
        """
        now_ms = self._clock.time_ms()
        run = text_of(*uuid7(now_ms, self._chance.getrandbits(74)))
        created = await self._creation.create(NewRun(run, account, name, version, given, now_ms, key))
        if created is NotCreated.TOO_MANY:
            raise TooManyRunsError("the account has as many runs that are not over as it may (workflows.live_runs)")
        if created is NotCreated.NO_DEFINITION:
            await self.definition(account, name, version)
            raise RunRefusedError(f"there is no definition {name!r}", missing=True)
        if created.new:
            return created
        before = await self.run(account, created.run)
        same = before.summary.name == name and before.state.input == given
        if not same or version not in (None, before.summary.version):
            raise RunRefusedError("the idempotency key belongs to a run of another definition or with another input")
        return created

    async def run(self, account: str, run: str) -> RunDetail:
        """Raises RunRefusedError where there is none."""
        found = await self._store.run(account, run)
        if found is None:
            raise RunRefusedError("there is no such run", missing=True)
        return found

    async def runs(self, account: str, status: str | None, before: str | None, limit: int) -> list[RunSummary]:
        """The newest first; nested ones are left out."""
        return await self._store.runs(account, status, before, limit)

    async def cancel(self, account: str, run: str, why: str) -> RunDetail:
        """Ask for its end; harmless again. Raises RunRefusedError for one that is over."""
        found = await self.run(account, run)
        if found.state.status in (RunStatus.CANCELLING, RunStatus.CANCELLED):
            return found
        if is_run_over(found.state.status):
            raise RunRefusedError(f"the run is {found.state.status} already", conflict=True)
        return await self._tell(found, SignalKind.CANCEL, why)

    async def resume(self, account: str, run: str) -> RunDetail:
        """Ask for what failed to be done again. Raises RunRefusedError for a run that did not fail."""
        found = await self.run(account, run)
        if found.state.status not in (RunStatus.FAILED, RunStatus.CANCELLED):
            raise RunRefusedError(
                f"the run is {found.state.status}: only failed and cancelled ones can be resumed", conflict=True
            )
        if found.parent is not None:
            raise RunRefusedError("it is nested: resume the run that it belongs to", conflict=True)
        return await self._tell(found, SignalKind.RESUME, None)

    async def _tell(self, found: RunDetail, kind: SignalKind, body: Any) -> RunDetail:
        """Say it, and wait a moment for the run to hear it: who asks next sees what has come of it."""
        summary = found.summary
        end_s = self._clock.monotonic_s() + HEARD_S
        with self.watching(summary.id) as event:
            await self._store.signal(summary.id, kind, body, self._clock.time_ms())
            self._notice()
            while found.summary.revision == summary.revision and self._clock.monotonic_s() < end_s:
                await _wait(event, POLL_S)
                event.clear()
                found = await self.run(summary.account, summary.id)
        return found

    # Events

    async def events(
        self, account: str, run: str, after: int, limit: int, wait_s: float
    ) -> tuple[list[EventRecord], bool]:
        """Events behind a revision, and whether the run was over when there were no more.

        Waits for the first one for `wait_s` at most. Raises RunRefusedError. May be cancelled.
        """
        end_s = self._clock.monotonic_s() + wait_s
        with self.watching(run) as event:
            while True:
                event.clear()
                detail = await self.run(account, run)
                found = await self._store.events(account, run, after, limit) or []
                over = is_run_over(detail.state.status) and len(found) < limit
                left_s = end_s - self._clock.monotonic_s()
                if found or over or left_s <= 0:
                    return found, over
                await _wait(event, min(left_s, POLL_S))

    async def page(self, account: str, run: str, after: int, limit: int) -> tuple[list[EventRecord], int] | None:
        """Events behind a revision, and the newest one; None: there is no such run. Raises StoreError."""
        return await self._store.page(account, run, after, limit)

    async def lines(self, account: str, after: int, limit: int) -> tuple[list[LineRecord], int, int]:
        """See WorkflowStore.lines. Raises StoreError."""
        return await self._store.lines(account, after, limit)

    async def newest_lines(self, accounts: Sequence[str]) -> list[int]:
        """See WorkflowStore.newest_lines. Raises StoreError."""
        return await self._store.newest_lines(accounts)

    async def revisions(self, runs: Sequence[tuple[str, str]]) -> list[int]:
        """The revision of each (account, run); 0 for one that is not there. Raises StoreError."""
        return await self._store.revisions(runs)

    @contextlib.contextmanager
    def watching(self, run: str) -> Iterator[asyncio.Event]:
        """Set whenever something of the run is stored by this process."""
        event = asyncio.Event()
        watchers = self._watchers.setdefault(run, set())
        watchers.add(event)
        try:
            yield event
        finally:
            watchers.discard(event)
            if not watchers:
                self._watchers.pop(run, None)

    def moved(self, run: str, account: str) -> None:
        """Something was stored of a run: those who wait for its events look at once."""
        for event in self._watchers.get(run, ()):
            event.set()


async def _wait(event: asyncio.Event, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
