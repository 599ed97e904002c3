"""Which key tokens are checked with; it never runs open."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from gateway.connections.auth import Authenticator, local_key
from gateway.connections.token import mint
from gateway.errors import DataFolderError, SettingsError, TokenError
from gateway.settings.model import Auth
from tests.support.fake_clock import FakeClock
from tests.support.jwts import CLAIMS, SECRET

PEM = b"-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----\n"


def _authenticator(folder: Path, **settings: str) -> Authenticator:
    return Authenticator(Auth(**settings), folder, FakeClock())  # type: ignore[arg-type]


def test_a_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    key = local_key(folder)
    assert len(key) >= 32
    assert local_key(folder) == key
    assert local_key(tmp_path / "other") != key
    assert stat.S_IMODE((folder / "key").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_without_a_setting_the_local_key_counts(tmp_path: Path) -> None:
    authenticator = _authenticator(tmp_path)
    assert authenticator.verify(mint(CLAIMS, local_key(tmp_path))).device == "dev-1"
    with pytest.raises(TokenError):
        authenticator.verify(mint(CLAIMS, SECRET))


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataFolderError):
        local_key(tmp_path / "file")


def test_a_damaged_local_key(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"short\n")
    with pytest.raises(SettingsError, match="5 bytes"):
        local_key(tmp_path)


def test_a_shared_secret(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(SECRET + b"\n")
    authenticator = _authenticator(tmp_path, secret_file=str(tmp_path / "secret"))
    assert authenticator.verify(mint(CLAIMS, SECRET)).account == "acme"
    assert not (tmp_path / "key").exists()


@pytest.mark.parametrize(("secret", "told"), [(b"", "0 bytes"), (b"x" * 31, "31 bytes"), (PEM, "PEM")])
def test_a_secret_that_is_none(tmp_path: Path, secret: bytes, told: str) -> None:
    (tmp_path / "secret").write_bytes(secret)
    with pytest.raises(SettingsError, match=told) as caught:
        _authenticator(tmp_path, secret_file=str(tmp_path / "secret"))
    assert caught.value.key == "auth.secret_file"


def test_a_missing_file(tmp_path: Path) -> None:
    for name in ("secret_file", "public_key_file"):
        with pytest.raises(SettingsError) as caught:
            _authenticator(tmp_path, **{name: str(tmp_path / "nothing")})
        assert caught.value.key == f"auth.{name}"


def test_not_both(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="not both"):
        _authenticator(tmp_path, secret_file="a", public_key_file="b")


@pytest.mark.parametrize("token", ["", "é.b.c", "a.b", "🦋"])
def test_what_is_not_a_token(tmp_path: Path, token: str) -> None:
    with pytest.raises(TokenError):
        _authenticator(tmp_path).verify(token)
