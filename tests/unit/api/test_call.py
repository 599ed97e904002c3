import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.call import decode, decode_cursor, encode_cursor
from gateway.api.problem import Problem
from gateway.errors import QueryError


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_cursor_comes_back_as_it_was(device: str) -> None:
    cursor = encode_cursor(device)
    assert decode_cursor(cursor) == device
    assert cursor.isascii()
    assert not set(cursor) & set("+/=&?#% ")


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        (b"", "the body is empty"),
        (b" \n", "the body is empty"),
        (b'{"a": "\\ud83d"}', "half of a surrogate pair"),
        (b'{"a": "\\ud83d\\ude00"', "not JSON that can be read: Input data was truncated"),
        (b'{"a": 1', "not JSON that can be read"),
    ],
)
def test_a_body_that_is_no_json_is_told_what_is_wrong(payload: bytes, told: str) -> None:
    with pytest.raises(Problem, match=told) as caught:
        decode(payload, dict)
    assert caught.value.status == 400


@given(st.text(max_size=30))
def test_any_other_text_is_refused_or_ours(text: str) -> None:
    try:
        device = decode_cursor(text)
    except QueryError:
        return
    assert encode_cursor(device) == text


@pytest.mark.parametrize("text", ["", "A", "ZA=", "ZGE!", "ZGE\n", "ÄÖ"])
def test_texts_that_decoders_would_forgive(text: str) -> None:
    with pytest.raises(QueryError):
        decode_cursor(text)
