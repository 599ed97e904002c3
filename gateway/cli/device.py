"""Runs one device for the command line."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from random import Random, SystemRandom

import msgspec
from websockets.exceptions import InvalidURI
from websockets.uri import parse_uri

from gateway.adapters.clock import SystemClock
from gateway.decoding import decoder
from gateway.device import display, track_file
from gateway.device.answering import Appliance
from gateway.device.client import Device
from gateway.device.display import Display, Summary
from gateway.device.plan import Plan, Token
from gateway.device.track import SPACING_MS, Leg, legs
from gateway.device.walk import walk
from gateway.errors import SettingsError
from gateway.identity.minting import DEVICE_SCOPE, Minter
from gateway.settings.model import Listen
from gateway.wire.listener import local_address

MAX_SPEED = 1e6
KYOTO = (35.0116, 135.7681)


@dataclass(frozen=True)
class Options:
    """What the command line asked for. `token` "": the device makes its own with the local key."""

    sub: str
    account: str
    device_class: str
    token: str
    url: str
    track: Path | None
    speed: float
    original_times: bool
    count: int | None
    duration_s: float | None
    token_life_s: float
    answers: bool
    json: bool


class _Claims(msgspec.Struct):
    sub: str = ""
    account: str = "default"


_read_claims = decoder(_Claims)


def run(options: Options, minter: Callable[[], Minter]) -> int:
    """Run until the plan is fulfilled or a signal stops it; prints the summary and returns the exit code.

    `minter` is called only when the device has to make its own token.
    0: everything measured was acknowledged; 1: something was not, or the server sent the device away for good;
    3: the server was never reached. Raises SettingsError for a track or token that cannot be used.
    """
    if not 0 <= options.speed <= MAX_SPEED:
        raise SettingsError("--speed", f"must be a number from 0 (no pauses) to {MAX_SPEED:g}")
    try:
        # As the lookup of a name encodes it, which takes no label of more than 63 bytes.
        parse_uri(options.url).host.encode("idna")
    except (InvalidURI, ValueError) as error:
        raise SettingsError("--url", f"{error}; write it like ws://127.0.0.1:8080/ws") from error
    random, clock = SystemRandom(), SystemClock()
    sub, account = options.sub, options.account
    if options.token:
        mint = None
        claims = _claims(options.token)
        sub, account = claims.sub, claims.account
    else:
        mint = _mint(options, minter(), clock)
    plan = Plan(
        url=options.url,
        legs=_legs(options, random),
        id_prefix=f"{clock.time_ms():x}{random.getrandbits(24):06x}",
        token=mint() if mint is not None else Token(options.token),
        mint=mint,
        speed=options.speed,
        original_times=options.original_times,
        count=options.count,
        duration_s=options.duration_s,
        appliance=Appliance() if options.answers else None,
    )
    result = asyncio.run(_run(plan, clock, random, sub, account, quiet=options.json))
    print(msgspec.json.encode(result).decode() if options.json else display.text(result))  # noqa: T201
    return exit_code(result)


def exit_code(result: Summary) -> int:
    """0: all acknowledged; 3: no server answered; 1: anything else."""
    if not result.unacked and not result.rejected and not result.dropped and not result.stopped_by:
        return 0
    return 1 if result.answered else 3


def local_url(listen: Listen) -> str:
    """Where the gateway of these settings takes devices, as seen from this machine. Raises SettingsError."""
    scheme = "wss" if listen.tls_certificate_file else "ws"
    return f"{scheme}://{local_address('listen.public', listen.public, '--url')}/ws"


async def _run(plan: Plan, clock: SystemClock, random: Random, sub: str, account: str, *, quiet: bool) -> Summary:
    view = Display(quiet=quiet)
    device = Device(plan, clock, random, view)
    started_s = clock.monotonic_s()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _stop, device, view)
    drawing = asyncio.create_task(view.run(device.record), name="device-display")
    try:
        await device.run()
    finally:
        drawing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await drawing
        view.end()
    if device.record.stopped_by:
        view.note(device.record.stopped_by)
    return display.summary(device.record, sub, account, clock.monotonic_s() - started_s)


def _stop(device: Device, view: Display) -> None:
    view.note("stopping: sending what is left (once more to end at once)")
    device.stop()


def _mint(options: Options, minter: Minter, clock: SystemClock) -> Callable[[], Token]:
    def mint() -> Token:
        now_s = clock.time_ms() / 1000
        minted = minter.mint(
            options.sub, options.account, DEVICE_SCOPE, options.device_class, now_s, options.token_life_s
        )
        return Token(minted.token, minted.expires_s)

    return mint


def _claims(token: str) -> _Claims:
    """What a given token says about its owner; only for showing, the server is the one that checks."""
    try:
        payload = token.split(".")[1].encode("ascii")
        return _read_claims(urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
    except (IndexError, ValueError) as error:
        raise SettingsError("--token", "this is not a JWT") from error


def _legs(options: Options, random: Random) -> Iterator[Leg]:
    if options.track is None:
        lat, lon = (centre + random.uniform(-0.05, 0.05) for centre in KYOTO)
        return walk(random, lat, lon)
    recorded = _recorded(options.track)
    if options.count is None and options.duration_s is None:
        return iter(recorded)
    again = [recorded[0]._replace(pause_ms=SPACING_MS), *recorded[1:]]
    return chain(recorded, chain.from_iterable(repeat(again)))


def _recorded(path: Path) -> list[Leg]:
    found = track_file.read(path, "--track")
    if said := track_file.note(path, found):
        print(said, file=sys.stderr)  # noqa: T201
    return legs(found.fixes)
