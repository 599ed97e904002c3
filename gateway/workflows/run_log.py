"""The log channels `workflow:<run>`: what happens in one run, from any offset, to whoever watches."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from gateway.channels.channel import Channel, Family, Kind
from gateway.channels.log_ports import LogEvent, LogPage, LogSnapshot
from gateway.errors import HeiwaError, StoreError
from gateway.workflows.service import RunRefusedError, WorkflowService
from gateway.workflows.shown import event_data, run_answer

WORKFLOW = Family("workflow", Kind.LOG, "progress:read")
_MAX_ID_CHARS = 36


def run_channel(account: str, run: str) -> Channel:
    """The channel of a run."""
    return Channel(account, f"{WORKFLOW.name}:{run}")


class RunLog:
    """See `gateway.channels.log_ports.ChannelLog`. `service` opens workflows when they are asked for first."""

    def __init__(self, service: Callable[[], Awaitable[WorkflowService]]) -> None:
        self._service = service

    async def snapshot(self, account: str, subject: str) -> LogSnapshot | None:
        service = await self._opened()
        if len(subject) > _MAX_ID_CHARS:
            return None
        try:
            found = await service.run(account, subject)
        except RunRefusedError:
            return None
        return LogSnapshot(found.state.revision, run_answer(found))

    async def read(self, account: str, subject: str, after: int, limit: int) -> LogPage | None:
        service = await self._opened()
        if len(subject) > _MAX_ID_CHARS:
            return None
        try:
            found, _ = await service.events(account, subject, after, limit, 0)
        except RunRefusedError:
            return None
        (newest,) = await service.revisions([(account, subject)])
        events = [LogEvent(record.revision, record.time_ms, event_data(record.event)) for record in found]
        return LogPage(events, more=len(found) == limit, newest=newest)

    async def newest(self, channels: Sequence[tuple[str, str]]) -> Sequence[int]:
        return await (await self._opened()).revisions(channels)

    async def _opened(self) -> WorkflowService:
        try:
            return await self._service()
        except StoreError:
            raise
        except HeiwaError as error:
            raise StoreError(str(error)) from error
