"""What counts as a gateway that died."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from loadtest.processes.gateways import GatewayProcess


@pytest.mark.parametrize(
    ("asked", "code", "died"),
    [
        ("", 0, True),
        ("", 1, True),
        ("terminate", 0, False),
        ("terminate", 1, True),
        ("terminate", -9, True),
        ("kill", -9, False),
        ("kill", 0, False),
    ],
)
async def test_a_gateway_that_ends_unasked_died(tmp_path: Path, asked: str, code: int, died: bool) -> None:
    gateway = GatewayProcess("gateway-1.1", tmp_path)
    gateway._process = SimpleNamespace(returncode=code, wait=_ended)  # type: ignore[assignment]
    if asked == "terminate":
        gateway.terminate()
    elif asked == "kill":
        await gateway.kill()
    assert not gateway.died
    gateway.ended.set()
    assert gateway.died is died


async def test_a_gateway_that_had_to_be_killed_after_sigterm_died(tmp_path: Path) -> None:
    gateway = GatewayProcess("gateway-1.1", tmp_path)
    gateway._process = SimpleNamespace(returncode=-9, wait=_ended)  # type: ignore[assignment]
    gateway.terminate()
    await gateway.kill(expected=False)
    gateway.ended.set()
    assert gateway.died


async def _ended() -> int:
    return 0
