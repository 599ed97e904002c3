"""Who is connected; an account never sees another's devices."""

from __future__ import annotations

import gc

from gateway.connections import registry as module
from tests.support.bench import Bench, device
from tests.support.wire import CLOSE, client_frame, close_payload, server_frames


def test_accounts_are_apart() -> None:
    bench = Bench()
    bench.open(device("dev-1", "acme"))
    bench.open(device("dev-1", "other"))
    bench.open(device("dev-2", "other"))
    registry = bench.hub.registry
    assert (registry.total, registry.connected("acme"), registry.connected("other")) == (3, 1, 2)
    assert registry.names("acme") == ["dev-1"]
    assert registry.find("acme", "dev-2") is None
    assert registry.latest("acme", "dev-2") is None
    assert not registry.disconnect("acme", "dev-2", 0, "drain")
    assert registry.rivals("acme", "dev-2") == []
    for nobody in ("", "ACME", "acme "):
        assert registry.names(nobody) == []
        assert registry.connected(nobody) == 0


def test_the_last_disconnect_is_the_accounts_own() -> None:
    bench = Bench()
    _, transport = bench.open(device("dev-1", "acme"))
    transport.feed(client_frame(CLOSE, close_payload(1001)))
    transport.finish()
    registry = bench.hub.registry
    found = registry.last_disconnect("acme", "dev-1")
    assert found is not None
    assert (found.code, found.reason, found.fault) == (1001, "closed_by_peer", "peer")
    assert registry.last_disconnect("other", "dev-1") is None
    assert registry.find("acme", "dev-1") is None


def test_several_connections_of_one_device() -> None:
    bench = Bench("connections.duplicates=allow")
    pairs = [bench.open() for _ in range(3)]
    registry = bench.hub.registry
    assert registry.total == registry.connected("acme") == 3
    assert registry.names("acme") == ["dev-1"]
    pairs[1][1].finish()
    assert registry.profile(device()).account.of("dev-1") == [pairs[0][0], pairs[2][0]]
    assert registry.total == registry.connected("acme") == 2
    pairs[2][1].finish()
    assert registry.profile(device()).account.of("dev-1") == [pairs[0][0]]
    pairs[0][1].finish()
    assert registry.total == 0


def test_all_connections_of_a_device_are_sent_away() -> None:
    bench = Bench()
    transports = [bench.open()[1] for _ in range(2)]
    assert bench.hub.registry.disconnect("acme", "dev-1", 1001, "operator")
    for transport in transports:
        assert [frame.close_code for frame in server_frames(transport.take()) if frame.opcode == CLOSE] == [1001]
        transport.finish()
    found = bench.hub.registry.last_disconnect("acme", "dev-1")
    assert found is not None
    assert (found.code, found.reason, found.fault) == (1001, "operator", "plan")


def test_profiles_are_shared_and_gone_with_the_last() -> None:
    bench = Bench()
    first, _ = bench.open(device("a"))
    second, transport = bench.open(device("b"))
    assert first.profile is second.profile
    reader, _ = bench.open(device("c", "acme", "progress:read"))
    assert reader.profile is not first.profile
    assert reader.profile.account is first.profile.account
    assert (first.profile.exclusive, reader.profile.exclusive) == (True, False)
    transport.finish()
    del first, second, reader, transport
    for connection in bench.session.connections:
        if not connection.transport.lost:  # type: ignore[attr-defined]
            connection.transport.finish()  # type: ignore[attr-defined]
    bench.session.connections.clear()
    del connection
    gc.collect()
    assert len(bench.hub.registry._accounts) == len(bench.hub.registry._profiles) == 0


def test_rivals_are_those_that_only_one_may_have() -> None:
    bench = Bench()
    writer, _ = bench.open(device())
    bench.open(device("dev-1", "acme", "progress:read"))
    assert bench.hub.registry.rivals("acme", "dev-1") == [writer]


def test_the_memory_of_ends_is_bounded(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(module, "_MAX_LAST_DISCONNECTS", 3)
    bench = Bench()
    for name in ("a", "b", "a", "c", "d"):
        bench.open(device(name))[1].finish()
    known = [name for name in "abcd" if bench.hub.registry.last_disconnect("acme", name)]
    assert known == ["a", "c", "d"]


def test_what_is_shown_of_a_connection() -> None:
    bench = Bench()
    connection, _ = bench.open(device(device_class="esp-idf"))
    heard_ms = bench.hub.time_ms
    bench.pass_time(3)
    info = bench.hub.registry.find("acme", "dev-1")
    assert info is not None
    assert (info.device, info.device_class, info.heard_ms) == ("dev-1", "esp-idf", heard_ms)
    assert info.connected_ms == heard_ms
    assert info.expires_ms == bench.hub.table.expires_ms[connection.slot]
