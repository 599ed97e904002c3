"""A key of the environment, which is never shown; and none that each task would make for itself."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from gateway.adapters.aws.ecs_metadata import VARIABLE
from gateway.app.parts import shared_key
from gateway.cli import check
from gateway.cli.main import main
from gateway.drain.outlook import BAD, GOOD
from gateway.errors import SettingsError
from gateway.settings.load import load
from gateway.settings.model import Settings
from tests.support.fake_target_health import GROUP

SECRET = "correct-horse-battery-staple-and-some-more"
ON_ECS = {VARIABLE: "http://169.254.170.2/v4/x"}
GROUPS = f"drain.target_group_arns={GROUP}"


def _settings(*flags: str, **environment: str) -> Settings:
    return load(Path("/dev/null"), environment, flags).settings


def test_the_environment_gives_a_secret() -> None:
    assert _settings(HEIWA_AUTH__SECRET=SECRET).auth.secret == SECRET


def test_a_secret_has_no_place_in_arguments_or_files(tmp_path: Path) -> None:
    config = tmp_path / "heiwa.toml"
    config.write_text(f'[auth]\nsecret = "{SECRET}"\n')
    for path, flags in ((config, []), (Path("/dev/null"), [f"auth.secret={SECRET}"])):
        with pytest.raises(SettingsError, match=r"^auth.secret: is read from the environment only") as raised:
            load(path, {}, flags)
        assert SECRET not in str(raised.value)


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_show_settings_does_not_show_it(
    form: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEIWA_AUTH__SECRET", SECRET)
    monkeypatch.setattr("sys.argv", ["heiwa", "serve", "--show-settings", "--config", os.devnull, *form])
    with pytest.raises(SystemExit):
        main()
    out = capsys.readouterr().out
    assert SECRET not in out
    assert "HEIWA_AUTH__SECRET" in out
    if form:
        assert json.loads(out)["auth.secret"]["value"] == "(not shown)"


@pytest.mark.parametrize(
    ("flags", "environment"), [((GROUPS,), {}), ((), ON_ECS), (("drain.enabled=false",), ON_ECS), ((GROUPS,), ON_ECS)]
)
def test_a_made_key_behind_a_balancer_is_refused(flags: tuple[str, ...], environment: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=r"^auth.secret: no key is set"):
        shared_key(_settings(*flags), environment)


@pytest.mark.parametrize(
    "key",
    [
        {"HEIWA_AUTH__SECRET": SECRET},
        {"HEIWA_AUTH__SECRET_FILE": "x"},
        {"HEIWA_AUTH__PUBLIC_KEY_FILE": "x"},
        {"HEIWA_AUTH__JWKS_URL": "https://issuer.example/keys"},
    ],
)
def test_any_key_of_all_tasks_will_do(key: dict[str, str]) -> None:
    shared_key(_settings(GROUPS, **key), ON_ECS)


def test_without_a_balancer_a_key_may_be_made() -> None:
    shared_key(Settings(), {})


def test_check_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def verdicts(**environment: Any) -> dict[str, str]:
        flags = (f"data.folder={tmp_path}", "listen.public=127.0.0.1:0", "listen.operations=127.0.0.1:0")
        return {one.name: one.verdict for one in check.run(_settings(*flags, "drain.enabled=false", **environment))}

    monkeypatch.setenv(*next(iter(ON_ECS.items())))
    assert verdicts()["auth.secret"] == BAD
    assert verdicts(HEIWA_AUTH__SECRET="short")["auth.secret"] == BAD
    assert verdicts(HEIWA_AUTH__SECRET=SECRET)["auth"] == GOOD
