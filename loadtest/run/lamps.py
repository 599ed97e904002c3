"""Lamps beside the fleet: devices that carry out commands, and a sender that asks for them through the gateways' HTTP.

Commands are sent in an open loop: when one is due, it is sent, whatever became of those before it. Half go to the
gateway that holds the lamp, half to another one.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from gateway.identity.token import mint
from loadtest.processes.gateways import GatewayProcess
from loadtest.results.records import Commanded
from loadtest.scenario.scenario import LampsSection

LOCAL, REMOTE = "local", "remote"
_TOKEN_LIFE_S = 86_400
_AGAIN_S = 0.5
_ANSWER_S = 5.0
_START_S = 30.0
_ANNOUNCED_S = 0.5


class Lamps:
    """`start` when the gateways run, `stop` at the end of the measured time; `record` is called for each command."""

    def __init__(
        self, section: LampsSection, secret: str, account: str, seed: int, record: Callable[[Commanded], None]
    ) -> None:
        self._section = section
        self._secret = secret.encode()
        self._account = account
        self._chance = Random(seed)
        self._record = record
        self._tasks: set[asyncio.Task[None]] = set()
        self._carried: Counter[str] = Counter()
        self._lit = 0
        self._changed = asyncio.Event()

    @property
    def doubled(self) -> int:
        """Commands that a lamp was sent more than once."""
        return sum(count > 1 for count in self._carried.values())

    async def start(self, gateways: Sequence[GatewayProcess]) -> None:
        """Connect `each` lamps to every gateway, and wait for them."""
        names = [
            (f"lamp-{number}-{gateway.name}", gateway) for gateway in gateways for number in range(self._section.each)
        ]
        for name, gateway in names:
            self._spawn(self._lamp(name, gateway), name)
        async with asyncio.timeout(_START_S):
            while self._lit < len(names):
                self._changed.clear()
                await self._changed.wait()
        # The directory learns of them 20 times a second.
        await asyncio.sleep(_ANNOUNCED_S)
        self._spawn(self._send([*gateways], names), "commands")

    async def stop(self) -> None:
        """End the sender, then the lamps; what is under way has its deadline."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, coroutine: object, name: str) -> None:
        task: asyncio.Task[None] = asyncio.create_task(coroutine, name=name)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _token(self, sub: str, scope: str) -> str:
        claims = {"sub": sub, "account": self._account, "scope": scope, "exp": time.time() + _TOKEN_LIFE_S}
        return mint(claims, self._secret)

    # A lamp

    async def _lamp(self, name: str, gateway: GatewayProcess) -> None:
        """Answer whatever is asked; come back after each end."""
        headers = {"Authorization": f"Bearer {self._token(name, 'command:receive')}"}
        while True:
            try:
                async with connect(gateway.url, additional_headers=headers, compression=None, proxy=None) as connection:
                    await self._serve(connection)
            except (OSError, WebSocketException, TimeoutError):
                await asyncio.sleep(_AGAIN_S)

    async def _serve(self, connection: ClientConnection) -> None:
        self._lit += 1
        self._changed.set()
        try:
            async for text in connection:
                message = json.loads(text)
                if message["type"] == "command":
                    self._carried[message["args"]["press"]] += 1
                    result = {"type": "result", "command": message["id"], "ok": True, "value": message["args"]}
                    await connection.send(json.dumps(result))
        finally:
            self._lit -= 1

    # The sender

    async def _send(self, gateways: list[GatewayProcess], lamps: list[tuple[str, GatewayProcess]]) -> None:
        headers = {"Authorization": f"Bearer {self._token('app', 'command:send')}"}
        period_s = 1 / self._section.rate_per_s
        whole = ClientTimeout(total=self._section.deadline_s + _ANSWER_S)
        async with ClientSession(headers=headers, timeout=whole, connector=TCPConnector(limit=0)) as session:
            # The clock of uvloop counts whole milliseconds.
            due_s, number = time.perf_counter(), 0
            while True:
                due_s += period_s
                number += 1
                await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
                lamp, holder = self._chance.choice(lamps)
                others = [gateway for gateway in gateways if gateway is not holder]
                way = REMOTE if others and number % 2 else LOCAL
                asked = self._chance.choice(others) if way == REMOTE else holder
                self._spawn(self._press(session, asked, lamp, f"press-{number}", way, due_s), f"press {number}")

    async def _press(
        self, session: ClientSession, asked: GatewayProcess, lamp: str, press: str, way: str, due_s: float
    ) -> None:
        """One command, from when it was due to its answer."""
        url = f"{asked.operations}/api/v1/devices/{lamp}/commands"
        body = {"name": "press", "args": {"press": press}, "deadline_ms": int(self._section.deadline_s * 1000)}
        try:
            async with session.post(url, json=body) as response:
                answer = await response.json(content_type=None)
                outcome = "done" if response.status == 200 else str(answer.get("outcome") or response.status)
        except (ClientError, OSError, TimeoutError, ValueError) as error:
            outcome = type(error).__name__
        took_ms = (time.perf_counter() - due_s) * 1000
        self._record(Commanded(time.time_ns() // 1_000_000, way, outcome, round(took_ms, 3), self.doubled))
