"""Sending until every document is decided: nothing is lost or decided twice, whatever is answered."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gateway.locations.bulk_delivery import MAX_CALLS, Attempt, Delivery, deliver
from gateway.locations.bulk_outcome import Answer, Item, Silence

STORED = Answer(stored=True)


def run(number: int, answers: list[Answer], budget: int = 1 << 30) -> tuple[Delivery, list[Attempt]]:
    """Feed the answers in turn, and `STORED` afterwards."""
    left = [budget]

    def may_retry(wanted: int) -> bool:
        if wanted > left[0]:
            return False
        left[0] -= wanted
        return True

    steps = deliver(number, may_retry)
    asked: list[Attempt] = []
    try:
        attempt = next(steps)
        while True:
            asked.append(attempt)
            attempt = steps.send(answers.pop(0) if answers else STORED)
    except StopIteration as done:
        return done.value, asked


def of(*statuses: int) -> Answer:
    kinds = {409: "version_conflict_engine_exception", 400: "mapper_parsing_exception"}
    return Answer(items=[Item(status, kinds.get(status, "kind")) for status in statuses])


def test_nothing_is_sent_for_nothing() -> None:
    assert run(0, []) == (Delivery(), [])


def test_items_go_their_ways() -> None:
    found, asked = run(6, [of(201, 409, 429, 400, 503, 404), of(201)])
    assert found.duplicates == {1}
    assert sorted(found.rejections) == [2, 3, 5]
    assert found.rejections[2].overflow
    assert found.rejections[3].poison
    assert not found.rejections[5].overflow
    assert not found.rejections[5].poison
    assert [(list(attempt.positions), attempt.again) for attempt in asked] == [([0, 1, 2, 3, 4, 5], False), ([4], True)]


def test_a_second_failure_overflows() -> None:
    found, asked = run(2, [Answer(503), Answer(503)])
    assert len(asked) == 2
    assert all(rejection.overflow for rejection in found.rejections.values())
    assert len(found.rejections) == 2


def test_without_budget_nothing_is_sent_again() -> None:
    found, asked = run(3, [Answer(503)], budget=2)
    assert len(asked) == 1
    assert len(found.rejections) == 3


def test_one_that_is_too_large_is_found_by_halves() -> None:
    left = [Answer(413), Answer(413), STORED, Answer(413), STORED]
    found, asked = run(4, left)
    assert [list(attempt.positions) for attempt in asked] == [[0, 1, 2, 3], [0, 1], [0], [1], [2, 3]]
    assert list(found.rejections) == [1]
    assert found.rejections[1].poison


def test_an_answer_with_fewer_items_is_asked_again() -> None:
    found, asked = run(3, [of(201, 201), of(409, 409, 201)])
    assert [attempt.again for attempt in asked] == [False, True]
    assert found == Delivery({}, {0, 1})


def test_calls_are_bounded() -> None:
    found, asked = run(4000, [Answer(413)] * 5000)
    assert len(asked) == MAX_CALLS
    assert len(found.rejections) > 3000


statuses = st.sampled_from([200, 201, 201, 201, 400, 403, 404, 409, 429, 500, 503])
whole = st.one_of(
    st.builds(Answer, status=st.sampled_from([301, 400, 401, 403, 404, 413, 429, 500, 503]), too_large=st.booleans()),
    st.builds(Answer, silence=st.sampled_from(Silence)),
    st.just(STORED),
)


@given(st.integers(0, 40), st.data())
def test_conservation(number: int, data: st.DataObject) -> None:
    """Every document is decided once; what was answered 201 or as a duplicate, and nothing else, counts as stored."""
    stored: set[int] = set()
    sent: Counter[int] = Counter()
    steps = deliver(number, lambda wanted: data.draw(st.booleans()))
    try:
        attempt = next(steps)
        while True:
            sent.update(attempt.positions)
            kind = data.draw(st.sampled_from(["items", "whole", "short"]))
            if kind == "whole":
                answer = data.draw(whole)
                stored.update(attempt.positions if answer.stored else ())
            else:
                drawn = data.draw(st.lists(statuses, min_size=len(attempt.positions), max_size=len(attempt.positions)))
                if kind == "items":
                    good = (201, 409)
                    stored.update(p for p, s in zip(attempt.positions, drawn, strict=True) if s in good)
                else:
                    drawn = drawn[:-1]
                answer = of(*drawn)
            attempt = steps.send(answer)
    except StopIteration as done:
        found: Delivery = done.value
    assert set(range(number)) - found.rejections.keys() == stored
    assert found.duplicates <= stored
    assert set(sent) == set(range(number))
