"""What becomes of an answer of the overflow stream (Amazon Data Firehose), and of each of its records: one table."""

from __future__ import annotations

from enum import Enum


class StreamAction(Enum):
    """What to do with records that the stream did not take."""

    # The same records again, after a jittered pause.
    AGAIN = "again"
    # Leave the stream alone for a while; what comes meanwhile is spooled.
    REST = "rest"
    # Somebody has to mend it: the same, for longer, with an alarm.
    STOP = "stop"


def _codes(text: str) -> frozenset[str]:
    return frozenset(text.split())


# PutRecordBatch, "ErrorCode": ServiceUnavailableException or InternalFailure. The answer's own status is 200.
RECORDS: dict[StreamAction, frozenset[str]] = {
    StreamAction.AGAIN: _codes("ServiceUnavailableException InternalFailure InternalServerError ThrottlingException"),
}
CALLS: dict[StreamAction, frozenset[str]] = {
    StreamAction.REST: _codes(
        "ServiceUnavailableException ServiceUnavailable ThrottlingException Throttling LimitExceededException "
        "InternalFailure InternalServerError RequestTimeout no-credentials expired unreachable"
    ),
    StreamAction.STOP: _codes(
        "ResourceNotFoundException InvalidArgumentException InvalidKMSResourceException InvalidSourceException "
        "AccessDeniedException"
    ),
}


def of_record(code: str) -> StreamAction:
    """What becomes of one record with an ErrorCode; an unknown one is not tried again."""
    return StreamAction.AGAIN if code in RECORDS[StreamAction.AGAIN] else StreamAction.REST


def of_call(code: str, status: int) -> StreamAction:
    """What becomes of all records of a call that failed. `status` 0: there was no answer."""
    if code in CALLS[StreamAction.STOP]:
        return StreamAction.STOP
    if code in CALLS[StreamAction.REST] or status == 0 or status == 429 or status >= 500:
        return StreamAction.REST
    return StreamAction.STOP
