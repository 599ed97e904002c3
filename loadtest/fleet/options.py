"""The options of one fleet process: what they may be, and what is wrong with those that were given."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from gateway.errors import SettingsError
from gateway.identity.token import MIN_SECRET_BYTES
from loadtest.fleet.spread import fraction
from loadtest.fleet.targets import WebsocketTarget, loopback, target
from loadtest.scenario.arrivals import Arrival
from loadtest.scenario.behaviour import MAX_S, DeviceBehaviour, SamplePeriod
from loadtest.scenario.deploy import RoutingAlgorithm

# What is wrong with a device.
SLOW, HALF_OPEN = 1, 2
_CLIENT_MODEL_SALT, _TRAIT_SALT, _FAULT_SALT, _CHURN_SALT, _MUTE_SALT, _WATCH_SALT = range(11, 17)


class FleetOptions(DeviceBehaviour, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The process is called `process` and holds `devices` devices, named `prefix` and a number from `first` on.

    With the routing `fixed`, device i connects to `urls[i % n]`. As a load balancer does it: `round_robin` gives each
    connect to the next target in turn, `least_outstanding` to the target of which this process holds the fewest
    connections; with no target a connect is refused with 503. `speed` divides the devices' own waits: `speed` simulated
    seconds pass in a real one.

    `secret` signs the tokens (HS256), or `token_command` makes them: it reads the names of all devices from standard
    input, one a line, and writes one token a line. `sources` are the local addresses to connect from (a number: that
    many from 127.0.0.2 on), used only for targets on loopback. `run` begins every event id; empty: made from the time.

    With `replay` the devices are those of a recording from number `first` on: they connect, send and disconnect as they
    did then, `speed` times as fast. `connect` is then for those that were connected when the recording began, and
    `events` must be none.

    `connects_at_a_time` bounds the handshakes under way, `max_in_flight` the unanswered events of one device, `store`
    the events that it keeps beyond that. `start_at_ms` (since the Unix epoch) is the earliest moment to act, `finish_s`
    how long a `stop` waits for acks. `probe`: try one handshake with each target first. Samples end at whole multiples
    of `sample_period_s` of the wall clock, so that those of several processes coincide.
    """

    urls: Annotated[list[str], Meta(min_length=1)]
    devices: Annotated[int, Meta(ge=1, le=1_000_000)]
    process: str = "fleet"
    first: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0
    scope: str = "location:write"
    secret: str = ""
    token_command: list[str] = msgspec.field(default_factory=list)
    token_ttl_s: Annotated[float, Meta(gt=0, le=MAX_S)] = 7 * 86_400
    subprotocol: str = "heiwa.v1.json"
    tls_ca_file: str = ""
    sources: list[str] | Annotated[int, Meta(ge=0, le=10_000)] = 0
    connect: Arrival = msgspec.field(default_factory=lambda: Arrival(rate_per_s=1000))
    events: Arrival = msgspec.field(default_factory=Arrival)
    seed: int = 1
    run: Annotated[str, Meta(max_length=40, pattern=r"^[!-~]*$")] = ""
    start_at_ms: Annotated[int, Meta(ge=0, le=2**53)] = 0
    max_in_flight: Annotated[int, Meta(ge=1, le=1_000_000)] = 1000
    store: Annotated[int, Meta(ge=1, le=1_000_000)] = 1000
    connects_at_a_time: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    connect_timeout_s: Annotated[float, Meta(gt=0, le=MAX_S)] = 30.0
    sample_period_s: SamplePeriod = 1.0
    finish_s: Annotated[float, Meta(ge=0, le=MAX_S)] = 15.0
    acked_file: str = ""
    probe: bool = True
    routing: RoutingAlgorithm = "fixed"
    speed: Annotated[float, Meta(gt=0, le=1000)] = 1.0
    commands_per_s: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    command_deadline_s: Annotated[float, Meta(ge=0.1, le=60)] = 10.0
    replay: str = ""

    @property
    def targets(self) -> list[WebsocketTarget]:
        return [target(url) for url in self.urls]

    @property
    def source_addresses(self) -> list[str]:
        if isinstance(self.sources, int):
            return [loopback(number) for number in range(self.sources)]
        return self.sources

    def name(self, slot: int) -> str:
        return f"{self.prefix}{self.first + slot}"

    def client_model(self, slot: int) -> int:
        """The index in `client_models` of the model that this device follows, drawn by the fractions."""
        left = fraction(self.seed, self.first + slot, _CLIENT_MODEL_SALT)
        for index, part in enumerate(self.client_models.values()):
            left -= part
            if left < 0:
                return index
        return len(self.client_models) - 1

    def trait(self, slot: int) -> float:
        """The random number in [0, 1) that this device's client draws once when it starts (client_models.py)."""
        return fraction(self.seed, self.first + slot, _TRAIT_SALT)

    def faults(self, slot: int) -> int:
        """SLOW, HALF_OPEN or 0, drawn by the fractions."""
        drawn = fraction(self.seed, self.first + slot, _FAULT_SALT)
        if drawn < self.slow_readers:
            return SLOW
        return HALF_OPEN if drawn < self.slow_readers + self.half_open else 0

    def watches(self, slot: int) -> bool:
        """Whether this device watches another one."""
        return fraction(self.seed, self.first + slot, _WATCH_SALT) < self.watchers

    def half_open_after_s(self, slot: int) -> float:
        """The time from the welcome of a half-open device to its silence."""
        drawn = fraction(self.seed, self.first + slot, _MUTE_SALT)
        return self.half_open_after_min_s + (self.half_open_after_max_s - self.half_open_after_min_s) * drawn

    def churn_after_s(self, slot: int) -> float:
        """The time from a device's welcome to its leaving: 0.5 to 1.5 periods, so that they do not leave together."""
        return self.churn_period_s * (0.5 + fraction(self.seed, self.first + slot, _CHURN_SALT))


def load(text: str | bytes) -> FleetOptions:
    """Decode and check options. Raises SettingsError with the path of the field, what is wrong and what is allowed."""
    try:
        options = msgspec.json.decode(text, type=FleetOptions)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError("options", str(error)) from error
    for arrival, events in ((options.connect, False), (options.events, True)):
        problem = arrival.problem(events)
        if problem:
            raise SettingsError("events" if events else "connect", problem)
    if wrong := options.problem():
        raise SettingsError(*wrong)
    if bool(options.secret) == bool(options.token_command):
        raise SettingsError("secret", "give either secret (HS256) or token_command")
    if options.secret and len(options.secret.encode()) < MIN_SECRET_BYTES:
        raise SettingsError("secret", f"must have at least {MIN_SECRET_BYTES} bytes (RFC 7518, 3.2)")
    _ = options.targets
    return options
