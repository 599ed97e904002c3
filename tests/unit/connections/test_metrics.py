"""Metrics of connections; nothing a peer or an operator says becomes a label."""

from __future__ import annotations

from gateway.connections.housekeeping import Housekeeping
from gateway.connections.metrics import ConnectionMetrics
from tests.support.bench import ECHO, Bench, device
from tests.support.wire import CLOSE, client_frame, close_payload, request


def _samples(bench: Bench) -> dict[tuple[str, ...], float]:
    """Values by name and labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in ConnectionMetrics(bench.door, Housekeeping(bench.hub, lambda: 0.0)).collect()
        for sample in family.samples
    }


def test_counts() -> None:
    bench = Bench()
    bench.accept()
    bench.accept().feed(request("good", protocols=[ECHO]))
    bench.accept().feed(request("bad", protocols=[ECHO]))
    samples = _samples(bench)
    assert samples["heiwa_connections",] == 3
    assert samples["heiwa_handshakes_pending",] == 1
    assert samples["heiwa_connections_maximum",] == 1000
    assert samples["heiwa_connections_opened_total",] == 1
    assert samples["heiwa_handshakes_refused_total", "401", "token"] == 1


def test_codes_of_the_peer_are_no_labels() -> None:
    bench = Bench()
    for code in (1000, 3000, 3001, 4999):
        _, transport = bench.open()
        transport.feed(client_frame(CLOSE, close_payload(code)))
        transport.finish()
    samples = _samples(bench)
    assert samples["heiwa_disconnects_total", "closed_by_peer", "1000", "peer"] == 1
    assert samples["heiwa_disconnects_total", "closed_by_peer", "other", "peer"] == 3


def test_words_of_an_operator_are_no_label() -> None:
    bench = Bench()
    for number, reason in enumerate(("stolen", "sold to ACME")):
        _, transport = bench.open(device(f"dev-{number}"))
        bench.hub.registry.disconnect("acme", f"dev-{number}", 1008, reason)
        transport.finish()
        found = bench.hub.registry.last_disconnect("acme", f"dev-{number}")
        assert found is not None
        assert found.reason == reason
    assert _samples(bench)["heiwa_disconnects_total", "operator", "1008", "plan"] == 2
