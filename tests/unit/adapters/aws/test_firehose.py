"""What an answer of Firehose says of each record."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.adapters.aws.firehose import failed_records

GOOD, BAD = {"RecordId": "1"}, {"ErrorCode": "ServiceUnavailableException", "ErrorMessage": "Slow down."}


@pytest.mark.parametrize(
    ("answer", "failed"),
    [
        ({"FailedPutCount": 0, "RequestResponses": [GOOD, GOOD, GOOD]}, {}),
        ({"FailedPutCount": 1, "RequestResponses": [GOOD, BAD, GOOD]}, {1: "ServiceUnavailableException"}),
        ({"FailedPutCount": 1, "RequestResponses": [GOOD]}, {1: "no answer", 2: "no answer"}),
        ({"FailedPutCount": 3}, {0: "no answer", 1: "no answer", 2: "no answer"}),
        ({"FailedPutCount": 0, "RequestResponses": [GOOD, BAD, GOOD]}, {1: "ServiceUnavailableException"}),
        ({"FailedPutCount": 0, "RequestResponses": [GOOD, {}, None]}, {1: "no answer", 2: "no answer"}),
        ({"RequestResponses": {"a": 1}}, {0: "no answer", 1: "no answer", 2: "no answer"}),
        ({}, {0: "no answer", 1: "no answer", 2: "no answer"}),
        ({"FailedPutCount": 1, "RequestResponses": [GOOD, GOOD, GOOD, BAD]}, {}),
    ],
)
def test_a_record_without_an_answer_of_its_own_failed(answer: dict[str, Any], failed: dict[int, str]) -> None:
    assert failed_records(answer, 3) == failed
