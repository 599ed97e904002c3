"""A whole device in one file: stores what it measures, sends it, and comes back as told.

    HEIWA_TOKEN=… python docs/examples/device.py ws://127.0.0.1:8080/ws

Needs the package `websockets`. A real device writes `stored` to flash, so that it survives a restart.
"""

import asyncio
import json
import os
import random
import sys
import time
import uuid

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

NEVER_AGAIN = {1008, 4409}  # by policy; a newer connection of this device took over
NEW_TOKEN = {4401, 4403}
stored: dict[str, dict] = {}  # by id, oldest first: everything that is not acknowledged
not_before: dict[str, float] = {}  # by id: when a refused event may be sent again
in_flight: set[str] = set()


async def measure() -> None:
    """One position a second, whether there is a connection or not."""
    while True:
        event = {"id": str(uuid.uuid4()), "time": int(time.time() * 1000), "lat": 35.0116, "lon": 135.7681}
        stored[event["id"]] = event
        await asyncio.sleep(1)


async def send(socket, max_events: int) -> None:
    """Everything that is stored, due and not on its way."""
    while True:
        now = time.monotonic()
        due = [e for e in stored.values() if e["id"] not in in_flight and not_before.get(e["id"], 0) <= now]
        if due:
            batch = due[:max_events]
            in_flight.update(event["id"] for event in batch)
            await socket.send(json.dumps({"type": "locations", "events": batch}))
        await asyncio.sleep(0.2)


def answered(message: dict) -> None:
    """`ack`: forget it. `nack`: send it again later, with the same id, or never."""
    for name in message["ids"]:
        in_flight.discard(name)
        if message["type"] == "ack" or "retry_after_ms" not in message:
            stored.pop(name, None)
            not_before.pop(name, None)
        else:
            not_before[name] = time.monotonic() + message["retry_after_ms"] / 1000


async def converse(socket) -> float | None:
    """Until the connection ends; returns the seconds the server asked to stay away, if it asked."""
    welcome = json.loads(await socket.recv())
    print("connected as", welcome["connection"])
    sending = asyncio.create_task(send(socket, welcome["max_events"]))
    wait = None
    try:
        async for frame in socket:
            message = json.loads(frame)
            if message["type"] in ("ack", "nack"):
                answered(message)
                print(message["type"], len(message["ids"]), message.get("durability", message.get("code")))
            elif message["type"] == "goaway":
                sending.cancel()  # answers to what is on its way still come; then the server closes
                wait = message["reconnect_after_ms"] / 1000
            elif message["type"] == "error":
                print("the server says", message["code"], message["message"])
    except ConnectionClosed:
        pass
    finally:
        sending.cancel()
        in_flight.clear()  # not answered: all of it is sent again
    return wait


async def main(url: str, token: str) -> None:
    measuring = asyncio.create_task(measure())
    failures = 0
    while True:
        wait = None
        try:
            headers = {"Authorization": f"Bearer {token}"}
            async with connect(
                url, subprotocols=["heiwa.v1.json"], additional_headers=headers, compression=None
            ) as socket:
                failures = 0
                wait = await converse(socket)
            if socket.close_code in NEVER_AGAIN | NEW_TOKEN:
                break  # a device that can get a new token does so after 4401 and 4403
        except InvalidStatus as refused:
            print("refused with HTTP", refused.response.status_code)
            if refused.response.status_code not in (408, 409, 429) and refused.response.status_code < 500:
                break
            wait = float(refused.response.headers.get("Retry-After", 10))
        except (OSError, TimeoutError, ConnectionClosed) as error:
            print("no connection:", error)
        if wait is None:  # full jitter: a fleet that lost its server together must not return together
            wait = random.uniform(0, min(30, 2**failures))
            failures += 1
        await asyncio.sleep(wait)
    measuring.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], os.environ["HEIWA_TOKEN"]))
