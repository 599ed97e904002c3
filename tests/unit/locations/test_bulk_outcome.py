"""The table of what becomes of a bulk answer; each line was seen on a real node (tests/faults/test_opensearch_*)."""

import pytest

from gateway.locations.bulk_outcome import Action, Answer, Item, Silence, describe, of_item, of_request

ITEMS = [
    (Item(201), Action.STORED),
    (Item(409, "version_conflict_engine_exception", "document already exists"), Action.STORED),
    (Item(409, "resource_already_exists_exception", "index"), Action.RETRY),
    (Item(429, "rejected_execution_exception", "queue"), Action.OVERFLOW),
    (Item(429, "es_rejected_execution_exception", "queue"), Action.OVERFLOW),
    (Item(429, "cluster_block_exception", "flood stage"), Action.OVERFLOW),
    (Item(403, "security_exception", "Request Throttled Due To Too Many Requests"), Action.OVERFLOW),
    (Item(403, "cluster_block_exception", "blocked by: [FORBIDDEN/8/index write (api)]"), Action.STOP),
    (Item(403, "security_exception", "no permissions for [indices:data/write/bulk]"), Action.STOP),
    (Item(401, "security_exception", "missing"), Action.STOP),
    (Item(404, "index_not_found_exception", "no such index"), Action.STOP),
    (Item(400, "index_closed_exception", "closed"), Action.STOP),
    (Item(400, "mapper_parsing_exception", "failed to parse field [location]"), Action.POISON),
    (Item(400, "strict_dynamic_mapping_exception", "x is not allowed"), Action.POISON),
    (Item(400, "illegal_argument_exception", "Document contains at least one immense term"), Action.POISON),
    (Item(400, "illegal_argument_exception", "pipeline with id [nope] does not exist"), Action.STOP),
    (Item(400, "validation_exception", "this action would add [2] total shards"), Action.STOP),
    (Item(400, "something_new", ""), Action.STOP),
    (Item(200), Action.STOP),
    (Item(0), Action.STOP),
    (Item(-1), Action.STOP),
    (Item(4000), Action.STOP),
    *((Item(status, "any", ""), Action.RETRY) for status in (500, 502, 503, 504)),
]
REQUESTS = [
    (Answer(429, kind="rejected_execution_exception"), Action.OVERFLOW),
    (Answer(429, kind="circuit_breaking_exception", reason="[parent] Data too large"), Action.OVERFLOW),
    (Answer(429, kind="circuit_breaking_exception", too_large=True), Action.SPLIT),
    (Answer(413), Action.SPLIT),
    (Answer(403, reason="Too Many Requests"), Action.OVERFLOW),
    (Answer(403, kind="cluster_block_exception", reason="FORBIDDEN/12"), Action.STOP),
    (Answer(401), Action.STOP),
    (Answer(404), Action.STOP),
    (Answer(301), Action.STOP),
    (Answer(4000), Action.STOP),
    (Answer(400, kind="action_request_validation_exception"), Action.SPLIT),
    (Answer(400, kind="illegal_argument_exception"), Action.STOP),
    (Answer(400, kind="illegal_argument_exception", reason="must be terminated by a newline [\\n]"), Action.RETRY),
    (Answer(415), Action.RETRY),
    *((Answer(status), Action.RETRY) for status in (500, 502, 503, 504)),
    (Answer(silence=Silence.NOT_SENT), Action.RETRY),
    (Answer(silence=Silence.BROKEN), Action.RETRY),
    (Answer(silence=Silence.UNREADABLE), Action.RETRY),
    (Answer(silence=Silence.TIMEOUT), Action.OVERFLOW),
    (Answer(silence=Silence.UNSIGNED), Action.STOP),
]


@pytest.mark.parametrize(("item", "action"), ITEMS)
def test_items(item: Item, action: Action) -> None:
    assert of_item(item) is action


@pytest.mark.parametrize(("answer", "action"), REQUESTS)
def test_requests(answer: Answer, action: Action) -> None:
    assert of_request(answer) is action


def test_reasons_are_told_in_one_short_line() -> None:
    assert describe(Item(400, "kind", "why")) == "HTTP 400 kind: why"
    assert describe(Item(502)) == "HTTP 502"
    assert describe(Item(401, reason="Unauthorized")) == "HTTP 401: Unauthorized"
    shown = "failed to parse field [location] of type [long]. Preview of field's value: '[1,\n2]'"
    assert describe(Item(400, "k", shown)) == f"HTTP 400 k: {shown.partition('. Preview')[0]}"
    assert len(describe(Item(400, "kind", "x" * 5000))) == 300
    assert "dropped" in describe(Item(200))
    assert Answer(silence=Silence.TIMEOUT, reason="h did not").text == "no answer in time: h did not"
