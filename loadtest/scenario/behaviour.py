"""How the devices of a fleet behave: the fields that a scenario's `[fleet]` and a fleet process's options share."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct, field

from loadtest.scenario.client_models import CLIENT_MODELS, Fraction, fractions_problem

MAX_S = 1e7  # 115 days
SamplePeriod = Annotated[
    float, Meta(ge=0.1, le=1, description="Period of the samples of a fleet process, real seconds.")
]


class DeviceBehaviour(Struct, frozen=True, forbid_unknown_fields=True):
    """The names and the behaviour of the devices, whichever process holds them."""

    account: Annotated[str, Meta(min_length=1, max_length=128, description="The account (tenant) of all devices.")] = (
        "loadtest"
    )
    prefix: Annotated[
        str, Meta(min_length=1, max_length=100, description="A device's id is this prefix and its number.")
    ] = "device-"
    client_models: Annotated[
        dict[str, Fraction],
        Meta(
            description="Fraction of the devices that behave as each client model does.",
            extra_json_schema={"propertyNames": {"enum": list(CLIENT_MODELS)}},
        ),
    ] = field(default_factory=lambda: {"patient": 1.0})
    tracks: Annotated[
        str,
        Meta(
            description='GPX tracks that devices follow: "recorded" (those that ship), a file, or a folder; empty: '
            "synthetic walks."
        ),
    ] = ""
    slow_readers: Annotated[
        Fraction, Meta(description="Fraction of the devices that stop reading once they are connected.")
    ] = 0
    half_open: Annotated[
        Fraction, Meta(description="Fraction of the devices that fall silent once, without closing.")
    ] = 0
    half_open_s: Annotated[float, Meta(gt=0, le=MAX_S, description="How long a half-open device is silent.")] = 120
    half_open_after_min_s: Annotated[
        float, Meta(ge=0, le=MAX_S, description="Minimum time from a half-open device's welcome to its silence.")
    ] = 5
    half_open_after_max_s: Annotated[
        float, Meta(ge=0, le=MAX_S, description="Maximum time from a half-open device's welcome to its silence.")
    ] = 60
    churn_period_s: Annotated[
        float, Meta(ge=0, le=MAX_S, description="Period in which each device leaves and reconnects once; 0: it stays.")
    ] = 0

    watchers: Annotated[
        Fraction, Meta(description="Fraction of the devices that watch another one, as an owner's app does.")
    ] = 0

    def problem(self) -> tuple[str, str] | None:
        """The first field that does not fit the others, and what is wrong with it; None: all fit."""
        if wrong := fractions_problem(self.client_models):
            return "client_models", wrong
        if self.half_open_after_min_s > self.half_open_after_max_s:
            return "half_open_after_min_s", "is more than half_open_after_max_s"
        if self.slow_readers + self.half_open > 1:
            return "slow_readers", "slow_readers and half_open together are more than all devices"
        return None
