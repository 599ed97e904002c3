"""Settings at their bounds: a gateway starts with what `heiwa check` calls right, and refuses the rest by name."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.app.gateway import Gateway
from gateway.cli import check
from gateway.drain.outlook import BAD
from gateway.errors import HeiwaError, SettingsError
from gateway.settings.load import load
from gateway.settings.model import Settings

TEXTS = ["", "x", " ", "é", "*", ","]


def _values(field: dict[str, Any]) -> list[object]:
    bounds = [field[name] for name in ("minimum", "maximum") if name in field]
    if "exclusiveMinimum" in field:
        bounds.append(field["exclusiveMinimum"] + 0.001)
    kind = field.get("type")
    if kind in ("integer", "number") and "maximum" not in field:
        bounds += [2**31, 2**63, 10**30] if kind == "integer" else [1e18, 1e300]
    if kind == "boolean":
        bounds += ["true", "false"]
    return [*bounds, *field.get("enum", []), *(TEXTS if kind == "string" else [])]


def _cases() -> Iterator[str]:
    _, kinds = msgspec.json.schema_components([Settings], ref_template="{name}")
    for section, reference in kinds["Settings"]["properties"].items():
        if section not in ("device_classes", "workflow_accounts", "data"):
            for key, field in kinds[reference["$ref"]]["properties"].items():
                yield from (f"{section}.{key}={value}" for value in _values(field))


def _started(settings: Settings) -> HeiwaError | None:
    """Why a gateway does not start; None: it does, and stops."""

    async def run() -> HeiwaError | None:
        gateway = Gateway(settings)
        try:
            await gateway.start()
        except HeiwaError as error:
            return error
        await gateway.close()
        return None

    return asyncio.run(asyncio.wait_for(run(), 30))


@pytest.mark.parametrize("setting", list(_cases()))
def test_check_and_start_agree(tmp_path: Path, setting: str) -> None:
    flags = [f"data.folder={tmp_path / 'd'}", "listen.public=127.0.0.1:0", "listen.operations=127.0.0.1:0", setting]
    with contextlib.suppress(SettingsError):
        _agree(load(Path("/dev/null"), {}, flags).settings)


def _agree(settings: Settings) -> None:
    wrong = [result for result in check.run(settings) if result.verdict == BAD]
    refused = _started(settings)
    assert bool(wrong) == (refused is not None), (wrong, refused)


@pytest.mark.parametrize("key", ["data.folder", "auth.secret_file", "listen.tls_certificate_file", "listen.public"])
def test_no_setting_holds_a_null(key: str) -> None:
    with pytest.raises(SettingsError, match=f"{key}: holds the character U"):
        load(Path("/dev/null"), {}, [f"{key}=a\0b"])
