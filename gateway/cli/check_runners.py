"""`heiwa check`: what does the work of nodes, and where jobs speak for themselves."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

from gateway.app.workflow_parts import http_networks, runners_on
from gateway.cli.result import Result
from gateway.drain.outlook import BAD, GOOD, WARN
from gateway.errors import CallError
from gateway.settings.model import Settings
from gateway.workflows.allowed import names

# A name that no attempt has: whether it may be asked for is what is looked at.
_NOBODY = "heiwa-check"
JOBS = "listen.jobs"


def results(settings: Settings) -> Iterator[Result]:
    """One line a runner that is on, and one for jobs. Raises SettingsError."""
    for name in runners_on(settings.workflows):
        if name == "process":
            yield _process(settings)
        elif name == "http":
            yield _http(settings)
        elif name in ("batch", "ecs"):
            yield from _cloud(settings, name)
    yield _jobs(settings)


def _process(settings: Settings) -> Result:
    name = "runner process"
    if os.geteuid() != 0:
        said = "jobs run as the user of the gateway: they can read what it can, its key included"
        return Result(name, WARN, said, "let nobody put definitions with the scope admin whom the key is not for")
    return Result(name, GOOD, f"jobs run as {settings.workflows.process_user or 'nobody'}")


def _http(settings: Settings) -> Result:
    listed = http_networks(settings.workflows)
    if listed:
        said = f"requests go to public addresses and to {', '.join(map(str, listed))}"
        return Result("runner http", WARN, said, "list only networks that every tenant may reach")
    return Result("runner http", GOOD, "requests go to public addresses only")


def _cloud(settings: Settings, name: str) -> Iterator[Result]:
    field = "batch_queues" if name == "batch" else "ecs_clusters"
    places = sorted({one for account in settings.workflow_accounts.values() for one in names(getattr(account, field))})
    if not places:
        yield Result(
            f"runner {name}", WARN, "nothing is listed: no account may use it", f"set workflow_accounts.…{field}"
        )
        return
    for place, said in zip(places, asyncio.run(_asked(settings, name, places)), strict=True):
        mend = "correct the name, or allow the call in the role"
        yield Result(f"runner {name}", BAD if said else GOOD, f"{place}: {said or 'there'}", mend if said else "")


async def _asked(settings: Settings, name: str, places: list[str]) -> list[str]:
    """What is wrong with each; "": nothing."""
    from gateway.app.workflow_parts import cloud_jobs

    jobs = cloud_jobs(name, settings.workflows, settings.workflow_accounts)
    found = []
    try:
        for place in places:
            try:
                await jobs.find(_NOBODY, {"queue": place, "cluster": place})
            except CallError as error:
                found.append(str(error))
            else:
                found.append("")
    finally:
        await jobs.close()
    return found


def _jobs(settings: Settings) -> Result:
    if not settings.listen.jobs:
        return Result(JOBS, GOOD, "not set: jobs do not speak for themselves")
    url = settings.workflows.jobs_url
    if url.startswith("http://") or not url:
        said = f"jobs are told {url or settings.listen.jobs}, without TLS: their secrets can be read on the way"
        return Result(JOBS, GOOD, said)
    return Result(JOBS, GOOD, f"jobs are told {url}")
