"""Addresses of the workflow store."""

from __future__ import annotations

import pytest

from gateway.adapters.sql.engine import parse_url
from gateway.errors import SettingsError


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("postgresql+asyncpg://heiwa:secret@db/heiwa", "holds a password"),
        ("postgresql://db/heiwa", "postgresql:// is not known"),
        ("mysql://db/heiwa", "mysql:// is not known"),
        ("workflows.db", "is no address of a database"),
    ],
)
def test_what_is_no_address_of_a_store_is_told_without_its_password(text: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem) as caught:
        parse_url(text)
    assert caught.value.key == "workflows.store_url"
    assert "secret" not in str(caught.value)


def test_known_addresses_name_their_drivers() -> None:
    assert parse_url("sqlite:////tmp/w.db").drivername == "sqlite+aiosqlite"
    assert parse_url("postgresql+asyncpg://heiwa@db/heiwa").drivername == "postgresql+asyncpg"
