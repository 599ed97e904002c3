"""Refusals that repeat are answered after a while: for whom, for how many, and until when."""

from __future__ import annotations

import random

import pytest

from gateway.connections.admission import Repeats
from gateway.identity.identity import Identity
from tests.support.bench import ECHO, Bench, FakeAuthenticator, device
from tests.support.fake_transport import FakeTransport
from tests.support.wire import (
    read_answer,
    request,
)

FLEET = {f"d{number}": device(f"d{number}") for number in range(20)}
BEHIND_A_PROXY = ("listen.trusted_proxies=192.0.2.1/32",)


def _refused(bench: Bench, token: str = "d0", *headers: tuple[str, str]) -> FakeTransport:
    transport = bench.accept()
    transport.feed(request(token, protocols=[ECHO], headers=headers))
    return transport


def test_a_device_that_is_refused_again_waits_for_its_answer() -> None:
    bench = Bench(authenticator=FakeAuthenticator(**FLEET))
    bench.hub.admission.draining = True
    assert read_answer(_refused(bench).take()).status == 503
    assert read_answer(_refused(bench, "d1").take()).status == 503, "another device"
    again = _refused(bench)
    bench.pass_time(0.75)
    assert again.take() == b""
    again.feed(b"more that nobody reads")
    bench.pass_time(2.5)
    assert read_answer(again.take()).status == 503
    assert again.closing
    again.finish()
    assert bench.door.refusals == {(503, "draining"): 3}
    assert (bench.hub.admission.pending, bench.hub.admission.held, bench.door.held) == (0, 0, set())


class _Longest(random.Random):
    """Whoever has to wait waits as long as anybody."""

    def uniform(self, a: float, b: float) -> float:
        return b


def test_nobody_waits_longer_than_three_seconds() -> None:
    bench = Bench(authenticator=FakeAuthenticator(**FLEET))
    bench.hub.admission.draining = True
    bench.hub.chance = _Longest()
    _refused(bench)
    for _ in range(4):
        again = _refused(bench)
        bench.pass_time(2.5)
        assert again.take() == b""
        bench.pass_time(0.5)
        assert read_answer(again.take()).status == 503


@pytest.mark.parametrize(("others", "known"), [(16_383, True), (16_384, False)])
def test_so_many_that_were_refused_are_remembered_and_no_more(others: int, known: bool) -> None:
    repeats = Repeats()
    assert not repeats.again("first", 0)
    for number in range(others):
        assert not repeats.again(number, 1)
    assert repeats.again("first", 2) is known


def test_a_device_whose_token_lacks_the_scope_waits_as_well() -> None:
    bench = Bench(authenticator=FakeAuthenticator(d0=device("d0")._replace(scopes=frozenset({"other"}))))
    assert read_answer(_refused(bench).take()).status == 403
    again = _refused(bench)
    bench.pass_time(0.75)
    assert again.take() == b""
    bench.pass_time(2.5)
    assert read_answer(again.take()).status == 403


def test_a_device_that_is_refused_seldom_does_not_wait() -> None:
    bench = Bench(authenticator=FakeAuthenticator(**FLEET))
    bench.hub.admission.draining = True
    for _ in range(3):
        assert read_answer(_refused(bench).take()).status == 503
        bench.pass_time(11)


def test_one_that_gives_up_meanwhile_is_forgotten() -> None:
    bench = Bench(authenticator=FakeAuthenticator(**FLEET))
    bench.hub.admission.draining = True
    _refused(bench).finish()
    again = _refused(bench)
    again.finish()
    assert (bench.hub.admission.open, bench.hub.admission.pending, bench.hub.admission.held) == (0, 0, 0)
    bench.pass_time(5)


def test_without_a_trusted_proxy_an_address_may_be_that_of_the_whole_fleet() -> None:
    bench = Bench()
    for _ in range(5):
        answer = read_answer(_refused(bench, "wrong", ("X-Forwarded-For", "203.0.113.7")).take())
        assert answer.status == 401


def test_behind_a_trusted_proxy_an_address_that_is_refused_again_waits() -> None:
    bench = Bench(*BEHIND_A_PROXY)
    first, other = ("X-Forwarded-For", "203.0.113.7"), ("X-Forwarded-For", "203.0.113.8")
    assert read_answer(_refused(bench, "wrong", first).take()).status == 401
    assert read_answer(_refused(bench, "wrong", other).take()).status == 401
    assert _refused(bench, "wrong", first).take() == b""
    assert read_answer(_refused(bench, "wrong").take()).status == 401, "the proxy's own requests"


def test_a_stranger_is_not_known_by_what_it_says_of_itself() -> None:
    bench = Bench("listen.trusted_proxies=10.0.0.0/8")
    for _ in range(5):
        answer = read_answer(_refused(bench, "wrong", ("X-Forwarded-For", "203.0.113.7")).take())
        assert answer.status == 401


def test_few_wait_and_never_with_a_file_of_the_reserve() -> None:
    bench = Bench("connections.handshakes_pending=16", authenticator=FakeAuthenticator(**FLEET))
    bench.hub.admission.draining = True
    for name in FLEET:
        _refused(bench, name).finish()
    held = [_refused(bench, name) for name in FLEET]
    assert [transport.take() == b"" for transport in held] == [True] * 2 + [False] * 18
    bench = Bench(maximum=1, authenticator=FakeAuthenticator(**FLEET))
    bench.hub.admission.draining = True
    _refused(bench).finish()
    bench.accept()
    assert _refused(bench).take() != b""


def test_at_the_end_everybody_is_answered_at_once() -> None:
    bench = Bench(authenticator=FakeAuthenticator(**FLEET))
    bench.hub.admission.draining = True
    _refused(bench).finish()
    again = _refused(bench)
    bench.door.end()
    assert read_answer(again.take()).status == 503
    again.finish()
    assert read_answer(_refused(bench).take()).status == 503


def test_only_so_many_tokens_of_refused_peers_are_verified() -> None:
    class Counting(FakeAuthenticator):
        verified = 0

        def verify(self, token: str) -> Identity:
            self.verified += 1
            return super().verify(token)

    authenticator = Counting(**FLEET)
    bench = Bench(authenticator=authenticator)
    bench.hub.admission.draining = True
    for number in range(500):
        _refused(bench, f"unknown-{number}").finish()
    assert authenticator.verified == 100
