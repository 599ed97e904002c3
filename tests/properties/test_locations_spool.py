"""The spool against a list: appends, removals, damage and reopening in any order."""

import asyncio
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.adapters.sqlite.spool import SQLiteSpool
from gateway.errors import SpoolFullError
from gateway.locations.batch import DeviceEvents, count
from tests.support.locations import event

steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 30)), st.tuples(st.sampled_from(["remove", "reopen"]), st.just(0))
    ),
    max_size=30,
)


@settings(max_examples=40, deadline=None)
@given(steps)
def test_it_is_a_durable_list(steps: list[tuple[str, int]]) -> None:
    async def scenario() -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "spool.db"
            spool = SQLiteSpool(path, 5000)
            await spool.open()
            expected: list[list[DeviceEvents]] = []
            for step, (verb, size) in enumerate(steps):
                if verb == "append":
                    groups = [DeviceEvents("a", f"d{step}", [event(f"{step}-{n}") for n in range(size)])]
                    try:
                        await spool.append(groups)
                        expected.append(groups)
                    except SpoolFullError:
                        assert spool.size_bytes + 100 + 80 * size > 5000
                elif verb == "remove" and expected:
                    record = await spool.oldest()
                    assert record is not None
                    assert record.groups == expected.pop(0)
                    await spool.remove(record.number)
                elif verb == "reopen":
                    await spool.close()
                    spool = SQLiteSpool(path, 5000)
                    await spool.open()
                assert spool.events == sum(count(groups) for groups in expected)
            found, last = [], 0
            while (record := await spool.oldest(last)) is not None:
                found.append(record.groups)
                last = record.number
            assert found == expected
            await spool.close()

    asyncio.run(scenario())
