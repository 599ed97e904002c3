"""A whole device in one file: stores what it measures, sends it, carries out commands, and comes back as told.

    HEIWA_TOKEN=… python docs/examples/device.py ws://127.0.0.1:8080/ws [device:dog-1]

With a channel it watches that, too, as an app does: then its token needs `location:read`.

Needs the package `websockets`. A real device writes `stored` to flash, so that it survives a restart.
"""

import asyncio
import contextlib
import json
import math
import os
import random
import sys
import time
import uuid

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

NEVER_AGAIN = {1008, 4409}  # by policy; a newer connection of this device took over
SILENCE_S = 30  # an answer that is later than this does not come
STEADY_S = 10  # a connection that lasted this long was a success
MAX_OBEYED_S = 3600  # a longer wait is somebody's mistake
stored: dict[str, dict] = {}  # by id, oldest first: everything that is not acknowledged
not_before: dict[str, float] = {}  # by id: when a refused event may be sent again
in_flight: dict[str, float] = {}  # by id: when it was sent


def token() -> str:
    """Asked before each connection: a real device fetches a new one when the old one was refused."""
    return os.environ["HEIWA_TOKEN"]


def seconds(value: object, unit_s: float = 1.0) -> float:
    """How long the server asks to wait: 0 where that is no number (a date, nonsense), an hour at most."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = float(value[:400])
    if not isinstance(value, int | float) or not value >= 0:
        return 0.0
    return min(value, MAX_OBEYED_S / unit_s) * unit_s


async def measure() -> None:
    """One position a second, whether there is a connection or not."""
    while True:
        event = {"id": str(uuid.uuid4()), "time": int(time.time() * 1000), "lat": 35.0116, "lon": 135.7681}
        stored[event["id"]] = event
        await asyncio.sleep(1)


async def send(socket, max_events: int) -> None:
    """What is stored, due and not on its way, as far as it fits into one message."""
    now = time.monotonic()
    due = [e for e in stored.values() if e["id"] not in in_flight and not_before.get(e["id"], 0) <= now]
    if batch := due[:max_events]:
        await socket.send(json.dumps({"type": "locations", "events": batch}))
        in_flight.update((event["id"], now) for event in batch)


def answered(message: dict) -> None:
    """`ack`: forget it. `nack`: send it again later, with the same id, or never."""
    for name in message["ids"]:
        in_flight.pop(name, None)
        if message["type"] == "ack" or "retry_after_ms" not in message:
            stored.pop(name, None)
            not_before.pop(name, None)
        else:
            not_before[name] = time.monotonic() + seconds(message["retry_after_ms"], 0.001)


def carried_out(command: dict) -> dict:
    """The one result of a command; carried out twice, `switch` does no harm."""
    result = {"type": "result", "command": command["id"]}
    if command["name"] == "switch" and isinstance(command["args"], dict):
        return {**result, "ok": True, "value": {"on": command["args"].get("on") is True}}
    return {**result, "ok": False, "error": {"code": "unknown_command", "message": "known is: switch"}}


async def converse(socket, channel: str | None) -> float:
    """Until the connection ends; returns the seconds to stay away at least: 0: not told, infinite: never come back."""
    max_events = 50  # one may send before `welcome`, which tells how much at once
    leaving = None
    try:
        if channel:  # a snapshot comes with `subscribed`, and then each newer state as `event`
            await socket.send(json.dumps({"type": "subscribe", "channel": channel}))
        while min(in_flight.values(), default=math.inf) > time.monotonic() - SILENCE_S:
            if leaving is None:
                with contextlib.suppress(ConnectionClosed):  # what came before, a `goaway` for one, is still to be read
                    await send(socket, max_events)
            try:
                async with asyncio.timeout(0.2):
                    message = json.loads(await socket.recv())
            except TimeoutError:
                continue
            if message["type"] == "welcome":
                print("connected as", message["connection"])
                max_events = max(1, message["max_events"])
            elif message["type"] in ("ack", "nack"):
                answered(message)
                print(message["type"], len(message["ids"]), message.get("durability", message.get("code")))
            elif message["type"] == "goaway":  # answers to what is on its way still come; then the server closes
                replaced = message["reason"] == "replaced"
                leaving = math.inf if replaced else seconds(message["reconnect_after_ms"], 0.001)
            elif message["type"] == "command":
                with contextlib.suppress(ConnectionClosed):
                    await socket.send(json.dumps(carried_out(message)))
                print("command", message["name"])
            elif message["type"] in ("subscribed", "event"):
                print(message["channel"], message.get("data", message.get("snapshot")))
            elif message["type"] == "error":
                print("the server says", message["code"], message["message"])
    except ConnectionClosed:
        pass
    finally:
        in_flight.clear()  # not answered: all of it is sent again
    return math.inf if socket.close_code in NEVER_AGAIN else leaving or 0.0


class Connect(connect):
    """Takes a redirect for a refusal: to follow it would be a try without a wait."""

    def process_redirect(self, exc: Exception) -> Exception:
        return exc


async def main(url: str, channel: str | None = None) -> None:
    measuring = asyncio.create_task(measure())
    failures, told = 0, 0.0
    while told < math.inf:
        opened, told = math.inf, 0.0
        try:
            headers = {"Authorization": f"Bearer {token()}"}
            async with Connect(
                url, subprotocols=["heiwa.v1.json"], additional_headers=headers, compression=None
            ) as socket:
                opened = time.monotonic()
                told = await converse(socket, channel)
        except InvalidStatus as refused:
            print("refused with HTTP", refused.response.status_code)
            told = max(1.0, *map(seconds, refused.response.headers.get_all("Retry-After")), 0.0)
        except Exception as error:  # whatever it was: a device that ends here needs a visit
            print("no connection:", type(error).__name__, error)
        if time.monotonic() - opened >= STEADY_S:
            failures = 0
        # Full jitter, never without a wait: a fleet that lost its server together must not return together.
        await asyncio.sleep(max(told, random.uniform(0.1, min(30, 2**failures))) if told < math.inf else 0)
        failures = min(failures + 1, 5)
    measuring.cancel()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
