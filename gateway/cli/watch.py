"""`heiwa watch`: one channel of a running gateway, live."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import sys
import time
from collections.abc import Callable
from random import SystemRandom

from gateway.channels.channel import DEVICE, DRAIN
from gateway.cli.device import local_url
from gateway.identity.minting import Minter
from gateway.settings.model import Settings
from gateway.watching.messages import Event, Subscribed
from gateway.watching.view import as_json, line
from gateway.watching.watcher import Watcher

# Made anew for each connection.
_TOKEN_LIFE_S = 3600
_SCOPES = {DEVICE.name: DEVICE.scope, DRAIN.name: DRAIN.scope}
_OTHER_SCOPE = "progress:read"


class _Enough(Exception):
    """As many events as were asked for."""


class _Lines:
    """Prints what happens on standard output, and what happens to the connection on standard error."""

    def __init__(self, as_json: bool, count: int | None) -> None:
        self._as_json = as_json
        self._left = count

    def snapshot(self, subscribed: Subscribed) -> None:
        if self._as_json:
            _print(as_json(subscribed))
        else:
            _print(line(subscribed.channel, None, subscribed.offset, subscribed.snapshot))

    def event(self, event: Event) -> None:
        _print(as_json(event) if self._as_json else line(event.channel, event.time, event.offset, event.data, None))
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                raise _Enough

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)  # noqa: T201


def run(settings: Settings, channel: str, account: str, url: str, token: str, count: int | None, as_json: bool) -> None:
    """Until Ctrl-C, or `count` events came. Raises SettingsError, RefusedError, UnreachableError."""
    minted = None if token else mint(settings, channel, account)
    viewer = _Lines(as_json, count)
    watcher = Watcher(url or local_url(settings.listen), channel, token, minted, viewer, SystemRandom())
    with contextlib.suppress(_Enough):
        asyncio.run(_until_a_signal(watcher))


async def _until_a_signal(watcher: Watcher) -> None:
    loop = asyncio.get_running_loop()
    watching = asyncio.create_task(watcher.run(), name="watch")
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, watching.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await watching


def mint(settings: Settings, channel: str, account: str) -> Callable[[], str]:
    """Tokens of a name of their own: two who watch do not displace each other."""
    minter, name = Minter(settings), f"watch-{secrets.token_hex(4)}"
    scope = _SCOPES.get(channel.partition(":")[0], _OTHER_SCOPE)
    return lambda: minter.mint(name, account, scope, "", time.time(), _TOKEN_LIFE_S).token


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201
