"""The last key set on disk: whole or not at all, and of one issuer."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from gateway.adapters.key_set_file import NAME, KeySetFile
from gateway.errors import StoreError
from gateway.identity.ports import StoredKeySet

URL = "https://id.example/keys"


def test_what_is_kept_is_loaded(tmp_path: Path) -> None:
    file = KeySetFile(tmp_path, URL)
    assert file.load() is None
    for body in (b'{"keys":[]}', b'{"keys":[{"kid":"\xc3\xa9"}]}'):
        file.save(body, 1_750_000_000_000)
        assert file.load() == StoredKeySet(body, 1_750_000_000_000)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert stat.S_IMODE((tmp_path / NAME).stat().st_mode) == 0o600
    assert KeySetFile(tmp_path, "https://other.example/keys").load() is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"url":"a","fetched_ms":"x","body":""}', b"[" * 9000])
def test_a_damaged_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(StoreError, match=NAME):
        KeySetFile(tmp_path, URL).load()


def test_it_is_synced_before_it_has_its_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    sync, replace = os.fsync, Path.replace

    def on_sync(descriptor: int) -> None:
        found = os.fstat(descriptor)
        is_folder = stat.S_ISDIR(found.st_mode)
        assert is_folder or found.st_size > 0
        seen.append("folder synced" if is_folder else "file synced")
        sync(descriptor)

    def on_replace(self: Path, target: Path) -> Path:
        seen.append("named")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", on_sync)
    monkeypatch.setattr(Path, "replace", on_replace)
    KeySetFile(tmp_path, URL).save(b"{}", 1)
    assert seen == ["file synced", "named", "folder synced"]


def test_a_full_disk_keeps_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = KeySetFile(tmp_path, URL)
    file.save(b"first", 1)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space"):
        file.save(b"second", 2)
    assert file.load() == StoredKeySet(b"first", 1)


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"kept")
    (tmp_path / "jwks.json.new").symlink_to(tmp_path / "other")
    with pytest.raises(StoreError):
        KeySetFile(tmp_path, URL).save(b"{}", 1)
    assert (tmp_path / "other").read_bytes() == b"kept"
