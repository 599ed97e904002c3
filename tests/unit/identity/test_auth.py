"""Which key tokens are checked with; it never runs open."""

from __future__ import annotations

import os
import stat
from base64 import b64encode, encodebytes
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.errors import DataFolderError, SettingsError, TokenError
from gateway.identity.auth import Authenticator
from gateway.identity.key_files import local_key, readable_by_others
from gateway.identity.token import mint
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


@pytest.mark.parametrize("left", [b"", b"\n", b"\0" * 65])
def test_an_empty_local_key_says_what_to_do(tmp_path: Path, left: bytes) -> None:
    (tmp_path / "key").write_bytes(left)
    with pytest.raises(SettingsError, match="is empty; delete the file"):
        local_key(tmp_path)


@pytest.mark.parametrize("name", ["key", "secret_file", "public_key_file"])
def test_a_key_that_is_a_pipe_is_refused_without_a_wait(tmp_path: Path, name: str) -> None:
    pipe = tmp_path / "key"
    os.mkfifo(pipe)
    with pytest.raises(SettingsError, match=f"{pipe} is not a regular file"):
        _authenticator(tmp_path, **({} if name == "key" else {name: str(pipe)}))


@pytest.mark.parametrize("failing", ["write", "fsync", "link"])
def test_a_key_that_cannot_be_stored_leaves_nothing(
    tmp_path: Path, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    if failing == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    elif failing == "link":
        monkeypatch.setattr(Path, "hardlink_to", full)
    else:
        monkeypatch.setattr(os, "fdopen", full)
    with pytest.raises(DataFolderError, match="No space left"):
        local_key(tmp_path)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []
    assert len(local_key(tmp_path)) >= 32


def test_the_key_is_complete_and_synced_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    sync, link = os.fsync, Path.hardlink_to

    def on_sync(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        seen.append(f"{kind} of {os.fstat(descriptor).st_size}" if kind == "file" else kind)
        sync(descriptor)

    def on_link(self: Path, target: Path) -> None:
        seen.append("name")
        assert not self.exists()
        link(self, target)

    monkeypatch.setattr(os, "fsync", on_sync)
    monkeypatch.setattr(Path, "hardlink_to", on_link)
    key = local_key(tmp_path)
    assert seen == [f"file of {len(key) + 1}", "name", "folder"]


def test_who_makes_the_key_first_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = Path.hardlink_to

    def slower(self: Path, target: Path) -> None:
        self.write_bytes(b"k" * 40)
        link(self, target)

    monkeypatch.setattr(Path, "hardlink_to", slower)
    assert local_key(tmp_path) == b"k" * 40
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_key_that_others_can_read_is_seen(tmp_path: Path) -> None:
    local_key(tmp_path)
    assert not readable_by_others(tmp_path / "key")
    for mode in (0o644, 0o640, 0o604):
        (tmp_path / "key").chmod(mode)
        assert readable_by_others(tmp_path / "key")
    assert not readable_by_others(tmp_path / "nothing")


def _of_keys() -> list[bytes]:
    ec_key, ed_key, rsa_key = (
        ec.generate_private_key(ec.SECP256R1()).public_key(),
        ed25519.Ed25519PrivateKey.generate().public_key(),
        rsa.generate_private_key(65_537, 2048).public_key(),
    )
    spki, pem = PublicFormat.SubjectPublicKeyInfo, Encoding.PEM
    made = [key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) for key in (ec_key, ed_key, rsa_key)]
    made += [key.public_bytes(pem, spki) for key in (ec_key, ed_key, rsa_key)]
    made += [b"Bag Attributes\n" + made[-1], b"\n\n" + made[-2]]
    der = [key.public_bytes(Encoding.DER, spki) for key in (ec_key, ed_key, rsa_key)]
    der.append(rsa_key.public_bytes(Encoding.DER, PublicFormat.PKCS1))
    made += der + [b64encode(one) for one in der] + [encodebytes(one) for one in der]
    jwk = jwt.algorithms.ECAlgorithm.to_jwk(ec_key)
    made += [jwk.encode(), b'{"keys":[' + jwk.encode() + b"]}", b"[" + jwk.encode() + b"]", b" " + jwk.encode()]
    return [*made, b"---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n", b'{"kty":"oct","k":"' + b"x" * 43 + b'"}']


# Named by number: keys are made anew in each process, and all processes have to collect the same tests.
@pytest.mark.parametrize(
    "content", [pytest.param(content, id=str(number)) for number, content in enumerate(_of_keys())]
)
def test_keys_of_other_kinds_are_no_secret(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret").write_bytes(content)
    with pytest.raises(SettingsError, match=r"key in SSH, JWK or DER form|PEM key"):
        _authenticator(tmp_path, secret_file=str(tmp_path / "secret"))


@pytest.mark.parametrize("last", [b"\n", b" ", b"\x0b", b"\t\n"])
def test_a_key_in_der_form_may_end_like_a_line(tmp_path: Path, last: bytes) -> None:
    content = bytes.fromhex("302a300506032b6570032100") + (b"k" * 32)[: 32 - len(last)] + last
    (tmp_path / "secret").write_bytes(content)
    with pytest.raises(SettingsError, match="DER form"):
        _authenticator(tmp_path, secret_file=str(tmp_path / "secret"))


@pytest.mark.parametrize(
    "content", [b"0" * 40, b"{" * 40, b"ssh-like but no key at all, just words", b"x" * 32, b"\x30\x30" + b"a" * 48]
)
def test_what_only_looks_like_one_is_a_secret(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret").write_bytes(content)
    authenticator = _authenticator(tmp_path, secret_file=str(tmp_path / "secret"))
    assert authenticator.verify(mint(CLAIMS, content)).account == "acme"


def test_a_file_that_is_no_key_is_not_read_whole(tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(1 << 40)
    for name in ("secret_file", "public_key_file"):
        for path, problem in (("/dev/zero", "not a regular file"), (str(large), "65536 bytes")):
            with pytest.raises(SettingsError, match=problem) as caught:
                _authenticator(tmp_path, **{name: path})
            assert caught.value.key == f"auth.{name}"


def test_a_shared_secret(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(SECRET + b"\n")
    authenticator = _authenticator(tmp_path, secret_file=str(tmp_path / "secret"))
    assert authenticator.verify(mint(CLAIMS, SECRET)).account == "acme"
    assert not (tmp_path / "key").exists()


@pytest.mark.parametrize(
    ("secret", "told"), [(b"", "0 bytes"), (b"x" * 31, "31 bytes"), (b"\0" * 64, "all zero"), (PEM, "PEM")]
)
def test_a_secret_that_is_none(tmp_path: Path, secret: bytes, told: str) -> None:
    (tmp_path / "secret").write_bytes(secret)
    with pytest.raises(SettingsError, match=told) as caught:
        _authenticator(tmp_path, secret_file=str(tmp_path / "secret"))
    assert caught.value.key == "auth.secret_file"


def test_a_secret_of_the_environment(tmp_path: Path) -> None:
    authenticator = _authenticator(tmp_path, secret=SECRET.decode())
    assert authenticator.verify(mint(CLAIMS, SECRET)).account == "acme"
    assert not list(tmp_path.iterdir()), "no other key is made"
    with pytest.raises(SettingsError, match=r"^auth.secret: the secret has 5 bytes"):
        _authenticator(tmp_path, secret="short")
    with pytest.raises(SettingsError, match=r"^auth.secret_file: set either this or auth.secret"):
        _authenticator(tmp_path, secret=SECRET.decode(), secret_file="x")


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
