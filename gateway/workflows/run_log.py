"""The log channels `workflow:<run>` and `workflows`: what happens, from any offset, to whoever watches."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from gateway.channels.channel import Channel, Family, Kind
from gateway.channels.log_ports import LogEvent, LogPage, LogSnapshot
from gateway.errors import HeiwaError, StoreError
from gateway.workflows.records import Change, EventRecord
from gateway.workflows.service import RunRefusedError, WorkflowService
from gateway.workflows.shown import event_data, run_answer, run_in_list
from gateway.workflows.tail import Tail

WORKFLOW = Family("workflow", Kind.LOG, "progress:read")
WORKFLOWS = Family("workflows", Kind.LOG, "progress:read", named=False)
# Runs in the snapshot of a list: a page of them.
LISTED = 100
# Of a process that is alone one poll in so many asks the store all the same.
POLLS_ALONE = 30
_MAX_ID_CHARS = 36
Opening = Callable[[], Awaitable[WorkflowService]]


def run_channel(account: str, run: str) -> Channel:
    """The channel of a run."""
    return Channel(account, f"{WORKFLOW.name}:{run}")


def list_channel(account: str) -> Channel:
    """The channel of an account's runs."""
    return Channel(account, WORKFLOWS.name)


class RunLog:
    """See `gateway.channels.log_ports.ChannelLog`. `service` opens workflows when they are asked for first."""

    def __init__(self, service: Opening) -> None:
        self._service = service
        self._tail = Tail()
        # Whether all that is stored is stored by this process: then each commit is heard of, and who asks the store
        # each second only keeps it from others.
        self.alone = False
        self._polls = 0

    def take(self, change: Change, now_ms: int) -> None:
        """A change that was stored here, of a run that somebody watches."""
        self._tail.take(change, now_ms)

    async def snapshot(self, account: str, subject: str) -> LogSnapshot | None:
        service = await opened(self._service)
        if len(subject) > _MAX_ID_CHARS:
            return None
        try:
            found = await service.run(account, subject)
        except RunRefusedError:
            return None
        return LogSnapshot(found.state.revision, run_answer(found))

    async def read(self, account: str, subject: str, after: int, limit: int) -> LogPage | None:
        found = self._tail.read((account, subject), after, limit)
        if found:
            newest = self._tail.newest((account, subject))
            return LogPage(_events(found), more=found[-1].revision < newest, newest=newest)
        service = await opened(self._service)
        if len(subject) > _MAX_ID_CHARS:
            return None
        page = await service.page(account, subject, after, limit)
        if page is None:
            return None
        events, newest = page
        return LogPage(_events(events), more=len(events) == limit, newest=newest)

    async def newest(self, channels: Sequence[tuple[str, str]]) -> Sequence[int | None]:
        if self.alone:
            self._polls += 1
            if self._polls % POLLS_ALONE:
                return [None] * len(channels)
        return await (await opened(self._service)).revisions(channels)


class ListLog:
    """The same for the list of an account's runs: a line for each transition of a whole run."""

    def __init__(self, service: Opening) -> None:
        self._service = service

    async def snapshot(self, account: str, subject: str) -> LogSnapshot | None:
        service = await opened(self._service)
        # What comes between the two is in both, which harms nobody; the other way round it would be in neither.
        (newest,) = await service.newest_lines([account])
        runs = await service.runs(account, None, None, LISTED)
        return LogSnapshot(newest, {"runs": [run_in_list(one) for one in runs]})

    async def read(self, account: str, subject: str, after: int, limit: int) -> LogPage | None:
        found, kept_after, newest = await (await opened(self._service)).lines(account, after, limit)
        events = [LogEvent(record.number, record.time_ms, record.line) for record in found]
        return LogPage(events, more=len(found) == limit, kept_after=kept_after, newest=newest)

    async def newest(self, channels: Sequence[tuple[str, str]]) -> Sequence[int]:
        return await (await opened(self._service)).newest_lines([account for account, _ in channels])


def _events(found: Sequence[EventRecord]) -> list[LogEvent]:
    return [LogEvent(record.revision, record.time_ms, event_data(record.event)) for record in found]


async def opened(service: Opening) -> WorkflowService:
    """Raises StoreError."""
    try:
        return await service()
    except StoreError:
        raise
    except HeiwaError as error:
        raise StoreError(str(error)) from error
