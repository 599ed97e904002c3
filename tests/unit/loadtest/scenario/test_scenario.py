"""Scenario files: those that ship, what is refused and how, and how a fleet is split."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from gateway.errors import SettingsError
from loadtest.fleet.options import load as load_fleet_options
from loadtest.processes import limits, slices
from loadtest.processes.fleet_options import CommonOptions, fleet_options
from loadtest.processes.slices import MachineShare
from loadtest.scenario import shipped
from loadtest.scenario.parsing import known_keys, parse, read_overrides
from loadtest.scenario.scenario import Scenario, json_schema

COMMON = CommonOptions(["ws://127.0.0.1:1/ws"], "s" * 32, 7, "run.", True, 0)


DEPLOYS = [name for name in shipped.names() if name.startswith("deploy-")]


def test_all_that_are_promised_ship() -> None:
    promised = {
        "steady",
        "storm",
        "walk",
        "churn",
        "slow-readers",
        "half-open",
        "node-loss",
        "outage",
        "firmware",
        "broker-loss",
        "watch",
        "commands",
        "commands-deploy",
        "alb-blue-green",
    }
    assert set(shipped.names()) - set(DEPLOYS) == promised | {"replay", "deploy"}


@pytest.mark.parametrize("name", shipped.names())
def test_a_shipped_scenario_is_whole(name: str) -> None:
    path = shipped.path_of(name)
    scenario = parse(shipped.read(path), path.name)
    assert scenario.description.endswith(".")
    assert scenario.thresholds
    part = slices.slices(scenario, MachineShare())[0]
    options = fleet_options(scenario, part, COMMON, "")
    assert load_fleet_options(msgspec.json.encode(options).decode()).devices == scenario.fleet.devices


@pytest.mark.parametrize("name", DEPLOYS)
def test_a_deploy_differs_from_the_plain_one_in_what_it_says(name: str) -> None:
    plain, special = (parse(shipped.read(shipped.path_of(each)), each) for each in ("deploy", name))
    assert special.based_on in ("deploy", "deploy-canary", "deploy-guarded")
    assert special.deploy is not None
    assert (special.deploy, special.fleet, special.gateways) != (plain.deploy, plain.fleet, plain.gateways)
    assert special.events == plain.events


def test_thresholds_that_say_nothing_are_left_out() -> None:
    text = "based_on = 'deploy'\nnot_judged = ['connect_peak_limit_ratio', 'plan_peak_limit_ratio']"
    plain, less = parse("based_on = 'deploy'", "my.toml"), parse(text, "my.toml")
    gone = {"connect_peak_limit_ratio <= 1", "plan_peak_limit_ratio <= 1"}
    assert set(plain.thresholds) - set(less.thresholds) == gone
    assert len(less.thresholds) == len(plain.thresholds) - 2


def test_a_base_may_have_a_base() -> None:
    scenario = parse("based_on = 'deploy-spot'\n[deploy]\nold = 3", "my.toml")
    assert scenario.deploy is not None
    assert (scenario.deploy.old, scenario.deploy.order, scenario.fleet.devices) == (3, "spot", 1000)


def test_what_is_not_said_is_as_in_the_base() -> None:
    scenario = parse("based_on = 'walk'\n[fleet]\ndevices = 7\n[fleet.client_models]\nnaive = 1", "my.toml")
    base = parse(shipped.read(shipped.path_of("walk")), "walk.toml")
    assert (scenario.fleet.devices, scenario.fleet.client_models) == (7, {"naive": 1.0})
    assert (scenario.fleet.tracks, scenario.events, scenario.thresholds) == (
        base.fleet.tracks,
        base.events,
        base.thresholds,
    )


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        ("based_on = 'depoy'", "based_on", "did you mean deploy?"),
        ("not_judged = ['connect_peak_limit_rati']", "thresholds", "did you mean connect_peak_limit_ratio?"),
        ("based_on = ['deploy']", "based_on", "there is no scenario"),
        ("[fleet]\ndevics = 3", "fleet.devics", "did you mean fleet.devices?"),
        ("[flet]\ndevices = 3", "flet", "did you mean fleet?"),
        ("[conect]\n", "conect", "did you mean connect?"),
        ("[fleet]\nperiod_s = 3", "fleet.period_s", "did you mean"),
        ("[[actions]]\nat_s = 1\ndoo = 'cut'", "actions.doo", "did you mean actions.do?"),
        ("[fleet]\ndevices = 0", "", ">= 1"),
        ("[fleet.client_models]\npatent = 1", "fleet.client_models", "no client model 'patent'; known are patient"),
        (
            "[fleet.client_models]\npatient = 0.3333\nesp-idf = 0.3333\nnaive = 0.3333",
            "fleet.client_models",
            "add up to 0.9999",
        ),
        ("[fleet]\ndevices = 1_000_000_000_000", "", "<= 10000000"),
        (f"[fleet]\ndevices = {'9' * 5000}", "", "not valid TOML"),
        (f"[fleet]\ndevices = {'[' * 3000}", "", "not valid TOML"),
        ("[run]\nduration_s = inf", "", "run.duration_s"),
        ("[run]\nduration_s = nan", "", "run.duration_s"),
        ("[fleet]\nhalf_open_s = inf", "", "fleet.half_open_s"),
        ("[[actions]]\nat_s = inf\ndo = 'cut'", "", "at_s"),
        (f"thresholds = ['ack_p99_ms < {'9' * 400}']", "thresholds", "not a number that can be reached"),
        ("[connect]\nat_a_time = 0", "", "connect.at_a_time"),
        ("[fleet]\nhalf_open_after_min_s = 61", "fleet.half_open_after_min_s", "more than half_open_after_max_s"),
        ("[fleet.client_models]\npatient = 0.5", "fleet.client_models", "add up to 0.5"),
        ("[connect]\nkind = 'constant'\nrate_per_s = 0", "connect", "rate_per_s above 0"),
        ("[connect]\nkind = 'periodic'", "", "periodic"),
        ("[run]\nduration_s = 5\n[[actions]]\nat_s = 5\ndo = 'cut'", "actions.at_s", "before the end"),
        ("thresholds = ['ack_99 < 3']", "thresholds", "did you mean ack_p99_ms?"),
        ("thresholds = ['ack_p99_ms']", "thresholds", "comparisons are"),
        ("not toml", "", "not valid TOML"),
    ],
)
def test_what_is_wrong_is_said(text: str, key: str, said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse(text, "my.toml")
    assert refused.value.key == key
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("fleet.devices=70", 70),
        ("connect.kind=poisson", "poisson"),
        ("connect.kind='poisson'", "poisson"),
        ("thresholds=['lost == 0']", ["lost == 0"]),
        ("gateways.settings.connections.heartbeat_s=5", {"connections.heartbeat_s": 5}),
        ("deploy.new_settings.connections.maximum=12", {"connections.maximum": 12}),
        ("fleet.client_models={naive=1}", {"naive": 1}),
    ],
)
def test_overrides_win(override: str, value: object) -> None:
    scenario: Any = parse("[fleet]\ndevices = 2", "my.toml", read_overrides([override]))
    for name in override.partition("=")[0].partition(".connections.")[0].split("."):
        scenario = getattr(scenario, name)
    assert scenario == value


@pytest.mark.parametrize("override", ["fleet.devices", "=3", "actions.at_s=3", "fleet.device=3"])
def test_overrides_that_mean_nothing_are_refused(override: str) -> None:
    with pytest.raises(SettingsError):
        parse("[[actions]]\nat_s = 1\ndo = 'cut'", "my.toml", read_overrides([override]))


def test_the_schema_knows_every_key() -> None:
    definitions = json_schema()["$defs"]
    keys = {
        (section, name): value
        for section, definition in definitions.items()
        for name, value in definition["properties"].items()
    }
    for key in known_keys():
        section, _, name = key.rpartition(".")
        owner = {"": "Scenario", "actions": "TimedAction"}.get(section, f"{section.capitalize()}Section")
        assert (owner, name) in keys
    assert all(definition["additionalProperties"] is False for definition in definitions.values())


@pytest.mark.parametrize(("devices", "of"), [(1, 1), (7, 3), (200_000, 8), (40_001, 2)])
def test_all_shares_together_hold_each_device_once(devices: int, of: int) -> None:
    scenario = parse("", "my.toml", read_overrides([f"fleet.devices={devices}"]))
    held: list[int] = []
    for number in range(1, of + 1):
        for part in slices.slices(scenario, MachineShare(number, of)):
            assert 0 < part.devices <= scenario.fleet.devices_each
            held += range(part.first, part.first + part.devices)
    assert held == list(range(devices))


def test_rates_of_all_processes_add_up() -> None:
    scenario = parse(
        "", "my.toml", read_overrides(["fleet.devices=100000", "connect.rate_per_s=3000", "events.rate_per_s=50"])
    )
    parts = [part for number in (1, 2) for part in slices.slices(scenario, MachineShare(number, 2))]
    options = [fleet_options(scenario, part, COMMON, "") for part in parts]
    assert sum(option.connect.rate_per_s for option in options) == pytest.approx(3000)
    assert sum(option.events.rate_per_s for option in options) == pytest.approx(50)


@pytest.mark.parametrize(("text", "share"), [("1/1", MachineShare(1, 1)), (" 3/8 ", MachineShare(3, 8))])
def test_a_share_is_read(text: str, share: MachineShare) -> None:
    assert slices.share(text) == share


@pytest.mark.parametrize("text", ["0/1", "2/1", "1", "a/b", "-1/2", ""])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="write 3/8"):
        slices.share(text)


def test_more_shares_than_devices_are_refused() -> None:
    with pytest.raises(SettingsError, match="leave none"):
        slices.slices(parse("", "my.toml", read_overrides(["fleet.devices=1"])), MachineShare(1, 2))


def test_too_few_files_are_said_with_what_to_change() -> None:
    scenario = parse("", "my.toml")
    limits.check_files(scenario, 36_000, 2, 20_000, 1_000_000)
    with pytest.raises(SettingsError, match=r"fleet\.devices_each=768"):
        limits.check_files(scenario, 36_000, 2, 1024, 1_000_000)
    with pytest.raises(SettingsError, match="--gateways 2"):
        limits.check_files(scenario, 36_000, 1, 20_000, 1_000_000)
    with pytest.raises(SettingsError, match="--devices 25000"):
        limits.check_files(scenario, 36_000, 2, 20_000, 50_000)
    limits.check_files(scenario, 36_000, 0, 20_000, 50_000)


def test_too_little_memory_is_said() -> None:
    limits.check_memory(200_000, 12, 12, 20_000_000_000)
    with pytest.raises(SettingsError, match=r"need about 3\.6 GB"):
        limits.check_memory(200_000, 12, 12, 2_000_000_000)


@pytest.mark.parametrize(
    ("devices", "speed", "more", "said"),
    [
        (120_000, 10, ["deploy.old=8"], "--speed 2 "),
        (120_000, 2, ["deploy.old=8"], ""),
        (68_000, 10, ["deploy.old=8", "deploy.waves=8"], ""),
        (120_000, 10, ["deploy.old=8", "deploy.drain=false"], ""),
        (120_000, 10, ["deploy.order=spot"], ""),
        (900_000, 1, ["deploy.old=60"], "--speed 1 "),
    ],
)
def test_a_deploy_that_is_played_too_fast_is_told_so(devices: int, speed: int, more: list[str], said: str) -> None:
    overrides = [f"fleet.devices={devices}", f"deploy.speed={speed}", "deploy.delay_s=600", *more]
    told = limits.too_fast(parse("", "my.toml", read_overrides(overrides)), devices, 2)
    assert said in told
    assert bool(told) is bool(said)


def test_sources_are_distinct() -> None:
    sources = [address for number in range(600) for address in slices.sources(number)]
    assert len(set(sources)) == len(sources) == 600 * slices.SOURCES_EACH
    assert sources[0] == "127.0.0.2"
    assert sources[250] == "127.0.1.2"


def test_defaults_are_a_scenario() -> None:
    assert parse("", "my.toml") == Scenario()


def test_the_expected_time_follows_devices_and_rate() -> None:
    scenario = parse(
        "", "my.toml", read_overrides(["fleet.devices=10000", "connect.rate_per_s=500", "run.duration_s=60"])
    )
    expected = limits.expected_s(scenario, 10_000, 1)
    assert expected["connect"] == pytest.approx(21)
    assert expected["measure"] == 60
    assert limits.expected_s(scenario, 5_000, 1)["connect"] == pytest.approx(21)


def test_the_fleet_is_told_of_waits_and_limits() -> None:
    fleet = "[fleet]\nhalf_open_after_min_s = 1\nhalf_open_after_max_s = 3\n"
    scenario = parse(f"{fleet}[connect]\nat_a_time = 7\n[run]\nsample_period_s = 0.5", "my.toml")
    given = fleet_options(scenario, slices.slices(scenario, MachineShare())[0], COMMON, "")
    options = load_fleet_options(msgspec.json.encode(given).decode())
    assert (options.connects_at_a_time, options.sample_period_s) == (7, 0.5)
    after_s = [options.half_open_after_s(slot) for slot in range(1000)]
    assert 1 <= min(after_s) < 1.1
    assert 2.9 < max(after_s) <= 3


def test_every_key_is_described_in_the_schema() -> None:
    kinds = json_schema()["$defs"]
    for kind, keys in (
        ("FleetSection", ("half_open_after_min_s", "half_open_after_max_s")),
        ("ConnectSection", ("at_a_time",)),
    ):
        assert all(kinds[kind]["properties"][key]["description"] for key in keys)


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 3000, "{a=" * 3000, "inf", "nan", "1e400"])
def test_an_absurd_value_of_an_option_is_refused_by_its_key(value: str) -> None:
    with pytest.raises(SettingsError, match="devices"):
        parse("", "steady.toml", read_overrides([f"fleet.devices={value}"]))
    with pytest.raises(SettingsError, match="duration_s"):
        parse("", "steady.toml", read_overrides([f"run.duration_s={value}"]))


def test_fractions_of_client_models_have_one_tolerance() -> None:
    thirds = {"patient": 0.333333, "esp-idf": 0.333333, "naive": 0.333334}
    text = "[fleet.client_models]\n" + "\n".join(f"{name} = {part}" for name, part in thirds.items())
    assert parse(text, "my.toml").fleet.client_models == thirds
    secret = "x" * 40
    load_fleet_options(
        json.dumps({"urls": ["ws://127.0.0.1/ws"], "devices": 3, "secret": secret, "client_models": thirds})
    )
    for fractions in ({}, {"patient": 0.999}, {"patient": 0.3333, "esp-idf": 0.3333, "naive": 0.3333}):
        with pytest.raises(SettingsError, match="client_models: the fractions add up"):
            load_fleet_options(
                json.dumps({"urls": ["ws://127.0.0.1/ws"], "devices": 3, "secret": secret, "client_models": fractions})
            )


def test_more_fleet_processes_than_a_machine_takes() -> None:
    scenario = parse("[fleet]\ndevices = 10_000_000\ndevices_each = 1", "my.toml")
    with pytest.raises(SettingsError, match=r"fleet\.devices_each: 10000000 fleet processes"):
        slices.slices(scenario, MachineShare())
