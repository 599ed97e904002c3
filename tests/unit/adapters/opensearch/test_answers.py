"""What answers of OpenSearch, and of what stands in front of it, are taken for."""

from __future__ import annotations

import pytest

from gateway.adapters.opensearch.bulk import Extra, read
from gateway.adapters.opensearch.connection import Response
from gateway.adapters.opensearch.searching import read_one, read_page
from gateway.errors import StoreError
from gateway.locations.bulk_outcome import Item, Silence
from gateway.locations.document import latest_lines
from gateway.locations.event import LocationEvent

CREATED, FULL = b'{"create":{"status":201}}', b'{"create":{"status":429,"error":{"type":"full","reason":"r"}}}'
REPLACED = b'{"index":{"status":200}}'
POSITION = latest_lines("latest", "a", "d", LocationEvent("e", 1, 1.0, 2.0))
UNUSABLE = [
    b"",
    b"<html>Please log in</html>",
    b"[]",
    b"null",
    b"\xff",
    b'{"login":"required"}',
    b'{"x":' + b"[" * 100_000,
    b'{"timed_out":false,"hits":{"hits":[{"_source":{"account":"\xff"}}]}}',
]


def answered(*items: bytes, errors: bytes = b"true") -> Response:
    return Response(200, b'{"errors":%b,"items":[%b]}' % (errors, b",".join(items)))


def test_documents_are_known_by_their_places_and_positions_behind_them_by_theirs() -> None:
    extra = Extra([POSITION])
    answer = read(answered(CREATED, FULL, REPLACED), 2, extra)
    assert answer.items == [Item(201), Item(429, "full", "r")]
    assert extra.taken


@pytest.mark.parametrize("errors", [b"true", b"false"])
@pytest.mark.parametrize(
    "items",
    [
        (REPLACED, CREATED, FULL),
        (CREATED, REPLACED, FULL),
        (CREATED, REPLACED),
        (CREATED, FULL),
        (CREATED, CREATED, CREATED),
        (CREATED, CREATED, REPLACED, REPLACED),
        (CREATED, b"{}", REPLACED),
        (),
    ],
)
def test_items_that_are_not_in_the_places_of_those_sent_tell_nothing(items: tuple[bytes, ...], errors: bytes) -> None:
    extra = Extra([POSITION])
    answer = read(answered(*items, errors=errors), 2, extra)
    assert answer.silence is Silence.UNREADABLE
    assert not extra.taken


@pytest.mark.parametrize("body", UNUSABLE, ids=lambda body: body[:30].decode("latin-1"))
def test_a_page_of_somebody_else_is_no_answer(body: bytes) -> None:
    assert read(Response(200, body), 2).silence is Silence.UNREADABLE
    with pytest.raises(StoreError):
        read_page(Response(200, body))


@pytest.mark.parametrize("body", [*UNUSABLE[:5], *UNUSABLE[6:7]], ids=lambda body: body[:30].decode("latin-1"))
def test_nor_is_it_a_document(body: bytes) -> None:
    with pytest.raises(StoreError):
        read_one(Response(200, body))


def test_an_empty_page_says_that_it_is_one() -> None:
    assert read_page(Response(200, b'{"timed_out":false}')) == []
