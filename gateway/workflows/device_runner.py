"""The runner `device`: a command over the device's websocket. What it reports is the progress, its result the outcome.

A device has no memory of commands. One whose result was missed, by a crash of ours or of the connection, may have been
carried out; it is sent again only if the node says that it is idempotent, else it counts as lost and the node's
`retry` decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from gateway.channels.commands import Outcome, Settled
from gateway.channels.commands import Progress as Reported
from gateway.channels.paced import Paced
from gateway.telemetry.log import Log
from gateway.workflows.ports import Report
from gateway.workflows.run import Attempt
from gateway.workflows.step import Failed, Finished, Happening, Progress, Submitted

DEADLINE_MS = 60_000
_UNKNOWN = (Outcome.GONE, Outcome.TIMED_OUT)
# Asked for again, the answer would be the same.
_FINAL = (Outcome.DEAF, Outcome.TOO_LARGE)
_log = Log("workflows")


class Commands(Protocol):
    """Carries commands to devices."""

    async def send(
        self,
        account: str,
        device: str,
        name: str,
        args: Any,
        deadline_ms: int,
        *,
        idempotent: bool = False,
        told: Callable[[Reported], None] | None = None,
    ) -> Settled: ...


class DeviceRunner:
    """See `gateway.workflows.ports.NodeRunner`."""

    name = "device"
    for_admins = False
    deduplicates = False
    movable = False

    def __init__(self, commands: Commands, report: Report) -> None:
        self._commands = commands
        self._report = report
        self._sent: dict[tuple[str, Attempt], asyncio.Task[None]] = {}

    def problem(self, account: str, work: Mapping[str, Any]) -> str:
        return ""

    async def submit(self, run: str, account: str, attempt: Attempt, work: Mapping[str, Any]) -> None:
        key = run, attempt
        if key not in self._sent:
            task = asyncio.create_task(self._send(run, account, attempt, work), name=f"workflow command {attempt.path}")
            self._sent[key] = task
            task.add_done_callback(lambda ended: self._over(key, ended))

    def _over(self, key: tuple[str, Attempt], ended: asyncio.Task[None]) -> None:
        # Stopped, it may have been sent anew since.
        if self._sent.get(key) is ended:
            del self._sent[key]

    async def proceed(self, run: str, attempt: Attempt) -> None:
        """It has begun."""

    async def adopt(
        self,
        run: str,
        account: str,
        attempt: Attempt,
        external: str | None,
        work: Mapping[str, Any],
        *,
        wanted: bool = True,
    ) -> None:
        if (run, attempt) in self._sent:
            return
        if wanted and work["idempotent"]:
            await self.submit(run, account, attempt, work)
        else:
            said = "it may have been carried out: its result was missed, and it does not say that it is idempotent"
            if not wanted:
                said = "nobody waits for its result any more"
            self._report(run, Failed(attempt, said, lost=True))

    async def stop(self, run: str, attempt: Attempt) -> None:
        task = self._sent.pop((run, attempt), None)
        if task is not None:
            task.cancel()
            self._report(run, Failed(attempt, "nobody waits for its result any more", lost=True))

    async def forget(self, attempts: Sequence[str]) -> None:
        """Nothing is kept."""

    async def close(self) -> None:
        tasks = list(self._sent.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, run: str, account: str, attempt: Attempt, work: Mapping[str, Any]) -> None:
        self._report(run, Submitted(attempt, work["id"]))
        told: Paced[Reported] = Paced(lambda said: self._report(run, Progress(attempt, *said)))
        try:
            settled = await self._commands.send(
                account,
                work["id"],
                work["command"],
                work["args"],
                DEADLINE_MS,
                idempotent=work["idempotent"],
                told=told,
            )
        except Exception as error:
            # Without a word the attempt would stand for ever.
            _log.error("workflow_command_failed", exc_info=error, run=run, node=attempt.path)
            self._report(run, Failed(attempt, f"the command failed here: {type(error).__name__}", lost=True))
            return
        finally:
            told.close()
        self._report(run, _outcome(attempt, settled))


def _outcome(attempt: Attempt, settled: Settled) -> Happening:
    if settled.outcome is Outcome.DONE:
        return Finished(attempt, settled.value)
    again = settled.outcome not in _FINAL
    return Failed(attempt, settled.text, again=again, lost=settled.outcome in _UNKNOWN)
