"""The connection layer and the fan-out with nothing behind them: every connection subscribes to one channel, and a
message `publish N` has N events of 200 bytes go to all of them in one turn.

`python -m tests.support.fanout [--set connections.heartbeat_s=25]` prints `ready PORT`.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import uvloop

from gateway.adapters.clock import SystemClock
from gateway.adapters.machine import raise_file_limit
from gateway.channels.channel import Channel, Family, Kind
from gateway.channels.fanout import Fanout
from gateway.connections.connection import Connection
from gateway.protocol.channel_messages import ChannelMessages
from gateway.settings.load import load
from gateway.settings.model import Settings
from tests.support.echo import Echo, make_door, run

FAMILY = Family("bench", Kind.LATEST, "location:write", named=False, by_account=False)
CHANNEL = Channel("", FAMILY.name)
# With what is around it in an `event`: 200 bytes.
TEXT = "x" * 126


class Counts:
    """A latest source whose states are numbers: the larger is the newer."""

    async def read(self, account: str, subject: str) -> int:
        return 0

    def merge(self, known: int | None, other: int) -> int:
        return other if known is None or other > known else known

    def show(self, state: int) -> Any:
        return TEXT


class Publishing(Echo):
    """Subscribes each connection with its first message."""

    fanout: Fanout
    published = 0

    def greeting(self, connection: Connection) -> bytes | None:
        self.fanout.subscribe(connection, CHANNEL, None)
        return None

    def text(self, connection: Connection, payload: bytes) -> None:
        for _ in range(int(payload.removeprefix(b"publish "))):
            self.published += 1
            self.fanout.publish(CHANNEL, self.published)

    def closed(self, connection: Connection) -> None:
        self.fanout.closed(connection)

    def writable(self, connection: Connection) -> None:
        self.fanout.writable(connection)


async def serve(settings: Settings, folder: Path) -> None:
    """All connections subscribe."""
    session = Publishing()
    door = make_door(settings, folder, raise_file_limit() - settings.connections.file_reserve, session)
    session.fanout = Fanout(door.hub.holders, ChannelMessages(), SystemClock())
    session.fanout.offer_latest(FAMILY, Counts())
    await run(settings, door, 0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp())
    uvloop.run(serve(load(Path("/dev/null"), {}, arguments.set).settings, folder))


if __name__ == "__main__":
    main()
