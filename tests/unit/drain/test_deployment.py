"""What a deployment says: its steps, and our part in it."""

from __future__ import annotations

import pytest

from gateway.drain.deployment import Deployment, Revision, Side, Step, Strategy, side, steps

BLUE, GREEN = frozenset({"blue"}), frozenset({"green"})


def test_steps_of_each_strategy() -> None:
    assert steps(Strategy.CANARY, 300) == (Step(0.05, 600), Step(1.0, 300))
    assert steps(Strategy.BLUE_GREEN, 300) == (Step(1.0, 300),)
    assert steps(None, 300) == ()
    linear = steps(Strategy.LINEAR, 300)
    assert [step.weight for step in linear] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert [step.lasts_s for step in linear] == [360] * 9 + [300]
    assert steps(Strategy.LINEAR, 60, 30, 5) == (Step(0.3, 5), Step(0.6, 5), Step(0.9, 5), Step(1.0, 60))
    assert steps(Strategy.CANARY, 60, 100, 5) == (Step(1.0, 60),)


@pytest.mark.parametrize(
    ("target", "source", "definition", "listed_in", "expected"),
    [
        (Revision("n", definition="g:8"), Revision("o", definition="g:7"), "g:7", (), Side.SOURCE),
        (Revision("n", definition="g:8"), Revision("o", definition="g:7"), "g:8", (), Side.TARGET),
        (Revision("n", definition="g:8"), Revision("o", definition="g:7"), "g:6", BLUE, Side.UNKNOWN),
        (
            Revision("n", definition="g:7", groups=GREEN),
            Revision("o", definition="g:7", groups=BLUE),
            "g:7",
            BLUE,
            Side.SOURCE,
        ),
        (
            Revision("n", definition="g:7", groups=GREEN),
            Revision("o", definition="g:7", groups=BLUE),
            "g:7",
            GREEN,
            Side.TARGET,
        ),
        (
            Revision("n", definition="g:7", groups=GREEN),
            Revision("o", definition="g:7", groups=BLUE),
            "g:7",
            (),
            Side.UNKNOWN,
        ),
        (
            Revision("n", definition="g:7", groups=BLUE),
            Revision("o", definition="g:7", groups=BLUE),
            "g:7",
            BLUE,
            Side.UNKNOWN,
        ),
        (Revision("n"), Revision("o"), "g:7", (), Side.UNKNOWN),
        (Revision("n", definition="g:8"), Revision("o", definition="g:7"), "", (), Side.UNKNOWN),
    ],
)
def test_the_side(
    target: Revision, source: Revision, definition: str, listed_in: frozenset[str], expected: Side
) -> None:
    assert side(Deployment("d", Strategy.CANARY, target, (source,)), definition, listed_in) is expected


def test_a_first_deployment_has_no_source() -> None:
    assert side(Deployment("d", Strategy.CANARY, Revision("n", definition="g:8")), "g:8", ()) is Side.UNKNOWN


def test_the_weight_is_what_the_sources_leave_where_the_target_does_not_tell() -> None:
    old = (Revision("o", 0.6), Revision("p", 0.3))
    assert Deployment("d", None, Revision("n", 0.2), old).weight == 0.2
    assert Deployment("d", None, Revision("n"), old).weight == pytest.approx(0.1)
    assert Deployment("d", None, Revision("n"), (*old, Revision("q"))).weight is None
    assert Deployment("d", None, Revision("n")).weight is None
