"""What contract tests of the workflow store are made of."""

from __future__ import annotations

from typing import Any

from gateway.adapters.sql.store import SqlWorkflowStore
from gateway.workflows.advance import advance, loaded
from gateway.workflows.definition import Definition, digest, stored
from gateway.workflows.names import public_id
from gateway.workflows.records import AttemptRecord, Change, Lease, NewRun, Owned
from gateway.workflows.run import Attempt, State
from gateway.workflows.step import Begin, Happening, StartChild, Step, Submit
from tests.support.workflows import START_MS, definition, node

ACCOUNT = "acme"
TWO = definition({"a": node(retry={"max_attempts": 3, "wait_s": 60}), "b": node(needs=["a"])})


async def put(store: SqlWorkflowStore, made: Definition = TWO, account: str = ACCOUNT) -> int:
    spec = stored(made.spec)
    return (await store.put_definition(account, made.spec.name, spec, digest(spec), START_MS)).version


async def begun(store: SqlWorkflowStore, lease: Lease, run: str = "r1", **more: Any) -> tuple[Owned, State]:
    await store.create([NewRun(run, ACCOUNT, "test", None, {"day": "now"}, START_MS, **more)], lease.manager)
    return await load(store, lease, run)


async def load(store: SqlWorkflowStore, lease: Lease, run: str) -> tuple[Owned, State]:
    owned = next(one for one in await store.owned(lease) if one.id == run)
    ((found, detail),) = await store.load(lease, [owned])
    assert detail is not None
    return found, loaded(TWO, detail.state)


def change(step: Step, owned: Owned, **more: Any) -> Change:
    begins = {one.attempt for one in step.commands if isinstance(one, Submit | StartChild)}
    attempts = {
        attempt: AttemptRecord(attempt, one.status, one.external, one.error, attempt in begins)
        for attempt, one in step.attempts.items()
    }
    fields: dict[str, Any] = {"children": [], "heard": [], "parent": None, "account": ACCOUNT, **more}
    return Change(step.state, owned.epoch, step.before, step.rows, attempts, step.events, **fields)


async def play(
    store: SqlWorkflowStore, lease: Lease, owned: Owned, state: State, happening: Happening, **more: Any
) -> tuple[set[str], State]:
    step = advance(TWO, state, happening, START_MS)
    return await store.commit(lease, [change(step, owned, **more)], START_MS), step.state


async def at_work(store: SqlWorkflowStore) -> tuple[Lease, Owned, State, str]:
    """A run whose node `a` is at work, and the public id of its attempt."""
    await put(store)
    lease = await store.register("m1", "i1", 30)
    owned, state = await begun(store, lease)
    _, state = await play(store, lease, owned, state, Begin())
    return lease, owned, state, public_id("r1", Attempt("a", 0, 1))
