"""Of all connections of a device the newest is the one that stays, whatever order gateways announce them in, and
whatever the directory loses in between."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from gateway.adapters.memory.exchange import Exchange, MemoryDirectory
from gateway.channels.directory import AT_ONCE_MS, Duplicates, Holder, Opened
from tests.support.fake_clock import FakeClock

GATEWAYS = 3
# A gateway (it takes the device), or what else happens; then how long it is until the next step.
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [("open", number) for number in range(GATEWAYS)] + [("announce", number) for number in range(GATEWAYS)]
        )
        | st.just(("lose", 0)),
        st.integers(AT_ONCE_MS + 1, 20_000),
    ),
    max_size=30,
)


class Gateway:
    """Announces late, and closes what loses."""

    def __init__(self, exchange: Exchange, name: str) -> None:
        self.name = name
        self.exchange = exchange
        self.directory = MemoryDirectory(exchange, name)
        # By name: when it was opened, and its number.
        self.open: dict[str, tuple[float, int]] = {}
        self.due: set[str] = set()

    async def announce(self, others: list[Gateway]) -> None:
        await self.directory.renew()
        for name in sorted(self.due & set(self.open), key=lambda name: self.open[name][0]):
            opened_s, order = self.open[name]
            age_ms = int((self.exchange.clock.monotonic_s() - opened_s) * 1000)
            (standing,) = await self.directory.write([Opened("acme", "lamp", name, age_ms, order)], Duplicates.REPLACE)
            self.open[name] = (opened_s, standing.order)
            if not standing.wins:
                del self.open[name]
            elif standing.rival is not None:
                for other in others:
                    if other.name == standing.rival.gateway:
                        other.open.pop(standing.rival.connection, None)
        self.due.clear()


@given(STEPS)
def test_the_newest_connection_stays(steps: list[tuple[tuple[str, int], int]]) -> None:
    asyncio.run(_play(steps))


async def _play(steps: list[tuple[tuple[str, int], int]]) -> None:
    clock = FakeClock()
    exchange = Exchange(clock, lease_s=1e9)
    gateways = [Gateway(exchange, f"g{number}") for number in range(GATEWAYS)]
    newest: Holder | None = None
    for count, ((what, number), wait_ms) in enumerate(steps):
        gateway = gateways[number]
        if what == "open":
            newest = Holder(gateway.name, f"c{count}")
            # Its own gateway closes what it had before.
            gateway.open = {newest.connection: (clock.monotonic_s(), 0)}
            gateway.due.add(newest.connection)
        elif what == "announce":
            await gateway.announce(gateways)
        else:
            exchange.rows.clear()
            exchange.counter = 0
            for one in gateways:
                one.due = set(one.open)
        clock.advance(wait_ms / 1000)
    for gateway in gateways:
        await gateway.announce(gateways)
    left = [Holder(gateway.name, name) for gateway in gateways for name in gateway.open]
    assert left == ([] if newest is None else [newest])
    entry = await gateways[0].directory.find("acme", "lamp")
    assert (None if entry is None else entry.holder) == newest
