"""Keys of an issuer: which one a token is checked with, and how the set is kept up to date."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from typing import Any

import jwt
import pytest

from gateway.errors import KeySetError, KeysUnknownError, StoreError, TokenError
from gateway.identity import key_refresh
from gateway.identity.jwk import read_key_set
from gateway.identity.key_freshness import UNKNOWN_KEY_S, Freshness
from gateway.identity.key_refresh import KeyRefresh
from gateway.identity.key_ring import KeyRing
from gateway.identity.ports import StoredKeySet
from tests.support.fake_clock import FakeClock
from tests.support.issuer import ALGORITHMS, Key, key_set
from tests.support.jwts import CLAIMS, encode, token

DAY_S = 86_400.0


class World:
    """A ring and what refreshes it; `source` is the next answer: a body, or an error."""

    def __init__(self, *jwks: Any) -> None:
        self.clock = FakeClock()
        self.ring = KeyRing(Freshness(DAY_S, self.clock.monotonic_s()), self.clock)
        self.source: bytes | Exception = key_set(*jwks)
        self.stored: StoredKeySet | Exception | None = None
        self.asked = 0
        self.kept = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.refresh = KeyRefresh(self.ring, self, self, self.clock, random.Random(0))

    async def fetch(self) -> bytes:
        self.asked += 1
        if isinstance(self.source, Exception):
            raise self.source
        return self.source

    def load(self) -> StoredKeySet | None:
        if isinstance(self.stored, Exception):
            raise self.stored
        return self.stored

    def save(self, body: bytes, fetched_ms: int) -> None:
        if isinstance(self.stored, Exception):
            raise self.stored
        self.stored = StoredKeySet(body, fetched_ms)
        self._loop.call_soon_threadsafe(self.kept.set)

    async def publish(self, *jwks: Any) -> None:
        self.source = key_set(*jwks)
        await self.refresh.refresh()

    def refused(self, text: str) -> str:
        with pytest.raises(TokenError) as caught:
            self.ring.verify(text)
        assert text not in str(caught.value)
        return str(caught.value)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_token_of_a_published_key(algorithm: str) -> None:
    key, other = Key("a", algorithm), Key("b", "ES256")
    world = World()
    await world.publish(other.jwk(), key.jwk())
    assert world.ring.verify(key.token()).sub == "dev-1"
    assert world.ring.verify(other.token()).sub == "dev-1"
    assert "signature" in world.refused(Key("a", algorithm).token())


async def test_a_key_that_is_gone_counts_no_longer_and_a_new_one_does() -> None:
    old, new = Key("old"), Key("new")
    world = World()
    await world.publish(old.jwk())
    await world.publish(old.jwk(), new.jwk())
    assert world.ring.verify(old.token())
    assert world.ring.verify(new.token())
    await world.publish(new.jwk())
    assert "does not publish" in world.refused(old.token())


@pytest.mark.parametrize("published", [[], [{"kty": "oct", "kid": "a", "k": "AAAA"}]])
async def test_a_set_without_a_usable_key_shuts_nobody_out(published: list[dict[str, str]]) -> None:
    key = Key("a")
    world = World()
    await world.publish(key.jwk())
    await world.kept.wait()
    kept = world.stored
    await world.publish(*published)
    assert world.ring.verify(key.token())
    assert world.refresh.readiness()[1]
    assert world.refresh.errors == 1
    assert world.stored == kept


async def test_a_key_may_change_under_its_name() -> None:
    first, second = Key("a"), Key("a")
    world = World()
    await world.publish(first.jwk())
    await world.publish(second.jwk())
    assert world.ring.verify(second.token())
    assert "signature" in world.refused(first.token())


async def test_algorithms_belong_to_keys() -> None:
    ec_key, rsa_key = Key("ec"), Key("rsa", "RS256")
    world = World()
    await world.publish(ec_key.jwk(), rsa_key.jwk())
    pem = jwt.algorithms.RSAAlgorithm.from_jwk(json.dumps(rsa_key.jwk()))
    assert pem is not None
    public = json.dumps(rsa_key.jwk()).encode()
    for kid in ("ec", "rsa", "nothing", ""):
        for algorithm in ("HS256", "none", "HS512", "hs256"):
            header = {"alg": algorithm, "kid": kid} if kid else {"alg": algorithm}
            world.refused(token(header=header, secret=public))
            unsigned = f"{encode(json.dumps(header).encode())}.{encode(json.dumps(CLAIMS).encode())}."
            world.refused(unsigned)
    assert "algorithm of its key" in world.refused(rsa_key.token({"kid": "ec"}))
    assert "algorithm of its key" in world.refused(ec_key.token({"kid": "rsa"}))
    for algorithm in ("PS256", "RS384", "RS512"):
        world.refused(jwt.encode(CLAIMS, rsa_key.private, algorithm, headers={"kid": "rsa"}))


async def test_a_token_cannot_bring_its_key() -> None:
    key, own = Key("a"), Key("own")
    world = World()
    await world.publish(key.jwk())
    for header in (
        {"kid": "own", "jwk": own.jwk()},
        {"kid": "a", "jwk": own.jwk()},
        {"kid": "own", "jku": "https://evil.example/keys"},
        {"kid": "a", "x5u": "https://evil.example/cert"},
        {"kid": "../../etc/passwd"},
        {"jwk": own.jwk()},
    ):
        world.refused(own.token(header))


@pytest.mark.parametrize("kid", [7, None, ["a"], {"a": 1}, True])
async def test_a_name_that_is_none(kid: Any) -> None:
    world = World()
    await world.publish(Key("a").jwk())
    header = {"alg": "ES256", "kid": kid}
    assert world.refused(token(header=header)) == "not a JWT"


async def test_without_a_name_there_must_be_no_choice() -> None:
    key, other = Key("a"), Key("b")
    world = World()
    await world.publish(key.jwk(), Key("r", "RS256").jwk())
    assert world.ring.verify(key.token({}))
    await world.publish(key.jwk(), other.jwk())
    assert "not exactly one" in world.refused(key.token({}))
    await world.publish(key.jwk(kid=None))
    assert world.ring.verify(key.token({}))
    assert "does not publish" in world.refused(key.token())


async def test_a_point_off_the_curve_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="heiwa")
    key = Key("a")
    world = World()
    await world.publish(key.jwk(), Key("b").jwk(y=key.jwk()["y"]))
    assert world.ring.names == {"a"}
    (line,) = [record for record in caplog.records if record.getMessage() == "key_set_changed"]
    assert line.fields["left_out"] == {"no key": 1}  # type: ignore[attr-defined]


async def test_an_issuer_that_cannot_be_read_says_nothing_about_a_token() -> None:
    world = World()
    with pytest.raises(KeysUnknownError):
        world.ring.verify(Key("a").token())
    await world.publish(Key("a").jwk())
    with pytest.raises(TokenError) as caught:
        world.ring.verify(Key("a").token())
    assert not isinstance(caught.value, KeysUnknownError)


async def test_before_the_first_set_nothing_passes_and_it_is_not_ready() -> None:
    world = World()
    world.source = KeySetError("down")
    assert "not known" in world.refused(Key("a").token())
    await world.refresh.refresh()
    assert world.refresh.readiness() == ("keys", False, "the key set of auth.jwks_url could not be read")


@pytest.mark.parametrize(
    "failure", [KeySetError("HTTP 500"), KeyError("x"), b"<html>", b'{"keys":[' + b"{}," * 9999 + b"{}]}"]
)
async def test_a_failing_endpoint_keeps_known_keys_for_a_day(failure: Any, caplog: pytest.LogCaptureFixture) -> None:
    key = Key("a")
    world = World()
    await world.publish(key.jwk())
    world.source = failure
    for _ in range(3):
        await world.refresh.refresh()
    world.clock.advance(DAY_S - 1)
    assert world.ring.verify(key.token())
    assert world.refresh.readiness()[1]
    world.clock.advance(2)
    assert "not known" in world.refused(key.token())
    assert not world.refresh.readiness()[1]
    assert [record.getMessage() for record in caplog.records].count("key_set_failed") == 1
    await world.publish(key.jwk())
    assert world.ring.verify(key.token())


async def test_a_start_without_the_endpoint_takes_the_last_set() -> None:
    key = Key("a")
    before = World()
    await before.publish(key.jwk())
    world = World()
    world.source = KeySetError("down")
    world.stored = before.stored
    world.clock.advance(3600)
    world.refresh.load()
    assert world.ring.verify(key.token())
    world.clock.advance(DAY_S - 3601)
    assert world.ring.verify(key.token())
    world.clock.advance(2)
    assert "not known" in world.refused(key.token())


async def test_a_disk_that_hangs_stops_no_refresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_refresh, "SAVE_S", 0.05)
    old, new = Key("old"), Key("new")
    world = World()
    hanging, began = threading.Event(), []

    def save(body: bytes, fetched_ms: int) -> None:
        began.append(body)
        hanging.wait(10)

    monkeypatch.setattr(world, "save", save)
    await world.publish(old.jwk())
    await world.publish(new.jwk())
    assert world.ring.verify(new.token())
    world.refused(old.token())
    # No thread more waits for the same disk.
    assert len(began) == 1
    hanging.set()


async def test_a_last_set_that_is_too_old_or_damaged_does_not_count() -> None:
    key = Key("a")
    world = World()
    world.stored = StoredKeySet(key_set(key.jwk()), world.clock.time_ms() - int(DAY_S * 1000) - 1)
    world.refresh.load()
    world.refused(key.token())
    for stored in (StoredKeySet(b"{", world.clock.time_ms()), StoreError("disk"), OSError(5, "I/O"), None):
        world.stored = stored
        world.refresh.load()
        world.refused(key.token())


async def test_a_disk_that_is_full_changes_nothing() -> None:
    key = Key("a")
    world = World()
    world.stored = StoreError("full")
    await world.publish(key.jwk())
    assert world.ring.verify(key.token())


async def test_unknown_keys_are_asked_for_in_the_background_once_a_minute() -> None:
    old, new = Key("old"), Key("new")
    world = World()
    await world.publish(old.jwk())
    world.source = key_set(old.jwk(), new.jwk())
    await asyncio.sleep(0)
    world.kept.clear()
    running = asyncio.create_task(world.refresh.run())
    try:
        for number in range(50):
            world.refused(Key(f"made-up-{number}").token())
        assert world.asked == 1
        assert world.ring.freshness.due_s == world.clock.monotonic_s() + UNKNOWN_KEY_S
        world.clock.advance(UNKNOWN_KEY_S)
        world.refused(new.token())
        async with asyncio.timeout(10):
            await world.kept.wait()
        assert world.asked == 2
        assert world.ring.verify(new.token())
    finally:
        running.cancel()


def test_a_set_of_no_use() -> None:
    assert read_key_set(key_set({"kty": "oct", "kid": "a", "k": "AAAA"})).keys == ()


async def test_keys_that_all_turn_out_to_be_none_shut_nobody_out() -> None:
    world = World(Key("a").jwk())
    await world.refresh.refresh()
    fetched_s = world.ring.freshness.fetched_s
    # Its point is not on the curve.
    await world.publish(Key("b").jwk(x="A" * 43))
    assert world.ring.names == {"a"}
    assert (world.refresh.errors, world.ring.freshness.fetched_s) == (1, fetched_s)
