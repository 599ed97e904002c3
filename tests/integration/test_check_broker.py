"""`heiwa check` tries the broker that the settings name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from gateway.cli import check_broker
from gateway.cli.result import Result
from gateway.errors import SettingsError
from loadtest.processes.ports import free_port
from tests.support.bench import make_settings
from tests.support.certificate import make_certificate
from tests.support.redis_server import BINARIES, RedisServer, redis_binary


@pytest.fixture(scope="module", params=list(BINARIES))
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(BINARIES[request.param](), tmp_path_factory.mktemp("broker"))
    server.start()
    yield server
    server.kill()


def check(*flags: str, environment: Mapping[str, str] | None = None) -> list[Result]:
    return list(check_broker.results(make_settings(*flags), environment or {}))


def test_a_good_one_is_told_and_left_as_it_was(server: RedisServer) -> None:
    (found,) = check(f"broker.url={server.url}")
    assert found.verdict == "ok"
    assert found.found.startswith(("Redis 7.", "Valkey "))
    assert "sharded" in found.found
    # Its counter stays, as after a gateway.
    assert [key.rpartition(":")[2] for key in server.keys()] == ["counter"]  # noqa: SIM118 - no mapping


def test_one_that_drops_keys_is_a_warning(server: RedisServer) -> None:
    server.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    _, memory = check(f"broker.url={server.url}")
    assert (memory.verdict, "allkeys-lru" in memory.found, "noeviction" in memory.mend) == ("warning", True, True)
    server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")


def test_what_its_user_may_not_do_is_named(server: RedisServer, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    access = (f"broker.url={server.url}", "broker.user=gw", f"broker.password_file={tmp_path / 'password'}")
    server.ask("ACL", "SETUSER", "gw", "on", ">secret", "~{heiwa}:*", "&{heiwa}:*", "+@all", "-@dangerous")
    (found,) = check(*access)
    assert found.verdict == "ok"
    server.ask("ACL", "SETUSER", "gw", "-@scripting")
    (found,) = check(*access)
    assert (found.verdict, "may not write the directory" in found.found) == ("wrong", True)
    server.ask("ACL", "SETUSER", "gw", ">other", "<secret")
    (found,) = check(*access)
    assert (found.verdict, "WRONGPASS" in found.found or "invalid" in found.found) == ("wrong", True)
    assert "secret" not in str(found)


def test_one_that_is_not_there(tmp_path: Path) -> None:
    (found,) = check("broker.url=redis://127.0.0.1:1")
    assert (found.verdict, found.found) == ("wrong", "127.0.0.1:1 cannot be reached")
    (found,) = check(f"broker.url=unix://{tmp_path}/nobody.sock")
    assert (found.verdict, "nobody.sock" in found.found) == ("wrong", True)


def test_none_is_needed_by_one_gateway() -> None:
    (found,) = check()
    assert found.verdict == "ok"
    (found,) = check(environment={"ECS_CONTAINER_METADATA_URI_V4": "http://169.254.170.2/v4/x"})
    assert (found.verdict, "only the devices that it holds" in found.found) == ("warning", True)


@pytest.mark.parametrize(
    ("flags", "key"),
    [
        (("broker.url=http://x",), "broker.url"),
        (("broker.url=redis://",), "broker.url"),
        (("broker.url=redis://x:y",), "broker.url"),
        (("broker.url=redis://x/db",), "broker.url"),
        (("broker.url=redis://user:word@x",), "broker.url"),
        (("broker.url=redis://x?db=1",), "broker.url"),
        (("broker.url=redis://x", "broker.user=gw"), "broker.user"),
        (("broker.url=redis://x", "broker.password_file=/nowhere"), "broker.password_file"),
        (("broker.url=redis://example.com", "broker.password_file=/etc/hostname"), "broker.url"),
        (("broker.url=rediss://x", "broker.ca_file=/nowhere"), "broker.ca_file"),
    ],
)
def test_settings_that_cannot_be(flags: tuple[str, ...], key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check(*flags)
    assert caught.value.key == key
    assert ":word" not in str(caught.value)


def test_tls_with_a_certificate_of_our_own(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    port = free_port()
    tls = ("--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key))
    server = RedisServer(redis_binary(), tmp_path, *tls, "--tls-auth-clients", "no")
    server.start()
    try:
        url = f"broker.url=rediss://127.0.0.1:{port}"
        (found,) = check(url, f"broker.ca_file={certificate}")
        assert found.verdict == "ok", found
        (found,) = check(url)
        assert (found.verdict, "TLS failed: self-signed certificate" in found.found) == ("wrong", True), found
    finally:
        server.kill()
