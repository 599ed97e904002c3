import msgspec
import pytest

from gateway.api.call import decode, invalid
from gateway.api.problem import Problem, bad_field, forbidden, unauthorized, unavailable
from gateway.api.records import DisconnectBody, ProblemBody


@pytest.mark.parametrize(
    "problem",
    [
        bad_field("limit", "must be a number"),
        unauthorized("expired", given=True),
        unauthorized("needed", given=False),
        forbidden("device:read"),
        unavailable("later", checks=[{"name": "a", "ok": False}]),
    ],
)
def test_problems_match_their_record(problem: Problem) -> None:
    response = problem.response()
    body = msgspec.json.decode(response.body, type=ProblemBody)  # type: ignore[arg-type]
    assert (body.kind, body.status) == ("about:blank", response.status)
    assert response.content_type == "application/problem+json"


def test_a_challenge_cannot_be_broken_out_of() -> None:
    header = unauthorized('a "b"\r\nSet-Cookie: x\\', given=True).headers["WWW-Authenticate"]
    assert header.count('"') == 6
    assert "\r" not in header
    assert "\n" not in header


@pytest.mark.parametrize(
    ("payload", "field", "status"),
    [
        (b'{"code":1}', "$.code", 422),
        (b'{"reason":7}', "$.reason", 422),
        (b"[]", "$", 422),
        (b"{", "$", 400),
        (b"", "$", 400),
    ],
)
def test_a_bad_body_names_the_field(payload: bytes, field: str, status: int) -> None:
    with pytest.raises(Problem) as caught:
        decode(payload, DisconnectBody)
    assert caught.value.status == status
    assert caught.value.extra["errors"][0]["field"] == field


def test_a_message_without_a_path_is_about_the_whole() -> None:
    assert invalid(msgspec.ValidationError("no good")).extra["errors"] == [{"field": "$", "problem": "no good"}]
