"""What all sockets that ask to come in share: who may, by which rules, and who waits for an answer."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import Protocol

from gateway.connections.connection import Session
from gateway.connections.hub import Hub
from gateway.identity.auth import Authenticator
from gateway.rate import TokenBucket
from gateway.settings.model import Settings
from gateway.wire.handshake import Policy
from gateway.wire.origin import allowed_origins
from gateway.wire.proxy import Networks, parse_networks

# Tokens of refused peers that are verified a second, to recognise peers that keep coming.
RECOGNITIONS_PER_S = 100.0


class Waiting(Protocol):
    """A socket that was refused, and was not told yet."""

    def answer_refusal(self, linger: bool = True) -> None:
        """Refuse without having seen the whole request; `linger` false: files are short."""

    def answer_held(self) -> None:
        """Answer a refusal that had to wait."""


class Door:
    """`hub` holds those that came in. `http` makes the protocol of whatever is no websocket; None: there is none.

    `refused` wait for their request, `held` for the answer to it, `securing` are TLS handshakes under way. `refusals`
    counts by HTTP status (0: no answer) and reason.
    """

    def __init__(
        self, hub: Hub, settings: Settings, authenticator: Authenticator, sessions: Mapping[str, Session]
    ) -> None:
        classes = settings.device_classes
        self.hub = hub
        self.authenticator = authenticator
        self.sessions = sessions
        self.policy = Policy(
            tuple(sessions),
            allowed_origins("listen.allowed_origins", settings.listen.allowed_origins),
            settings.connections.max_message_bytes,
            settings.connections.compression,
            frozenset().union(*(_names(each.subprotocols) for each in classes.values())),
        )
        self.handshake_timeout_s = settings.listen.handshake_timeout_s
        self.proxies: Networks = parse_networks("listen.trusted_proxies", settings.listen.trusted_proxies)
        self.proxy_protocol = settings.listen.proxy_protocol
        self._agents = [(prefix, name) for name, each in classes.items() for prefix in sorted(_names(each.user_agents))]
        self.http: Callable[[], asyncio.Protocol] | None = None
        self.refused: OrderedDict[int, Waiting] = OrderedDict()
        self.held: set[Waiting] = set()
        self.recognitions = TokenBucket(RECOGNITIONS_PER_S, RECOGNITIONS_PER_S, hub.now_s)
        self.securing: set[asyncio.Task[None]] = set()
        self.refusals: Counter[tuple[int, str]] = Counter()
        self.refusal_logs = TokenBucket(10, 100, hub.now_s)

    def tolerates(self, device_class: str, subprotocol: str) -> bool:
        """Whether this class of devices offers that subprotocol unasked."""
        return subprotocol in _names(self.hub.device_class(device_class).subprotocols)

    def class_of_agent(self, user_agent: str) -> str:
        """The class that names this User-Agent; "" when none does."""
        return next((name for prefix, name in self._agents if user_agent.startswith(prefix)), "")

    async def close(self) -> None:
        """End the TLS handshakes that are under way."""
        for task in self.securing:
            task.cancel()
        await asyncio.gather(*self.securing, return_exceptions=True)

    def end(self) -> None:
        """The process ends: every peer that waits for the answer to its refusal gets it now, and none waits again."""
        self.hub.admission.ending = True
        for waiting in list(self.held):
            waiting.answer_held()


def _names(text: str) -> frozenset[str]:
    return frozenset(part.strip() for part in text.split(",") if part.strip())
