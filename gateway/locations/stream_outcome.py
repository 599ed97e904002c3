"""What becomes of an answer of the overflow stream (Amazon Data Firehose), and of each of its records: one table."""

from __future__ import annotations

from enum import Enum

from gateway.errors import CallErrorKind


class StreamAction(Enum):
    """What to do with records that the stream did not take."""

    # The same records again, after a jittered pause.
    AGAIN = "again"
    # Leave the stream alone for a while; what comes meanwhile is spooled.
    REST = "rest"
    # Somebody has to mend it: the same, for longer, with an alarm.
    STOP = "stop"


# PutRecordBatch, RequestResponses, "ErrorCode"; the answer's own status is 200.
RECORDS = frozenset({"ServiceUnavailableException", "InternalFailure", "InternalServerError", "ThrottlingException"})
CALLS: dict[CallErrorKind, StreamAction] = {
    CallErrorKind.THROTTLED: StreamAction.REST,
    # No answer, or one of 500 and above such as ServiceUnavailableException.
    CallErrorKind.UNREACHABLE: StreamAction.REST,
    CallErrorKind.EXPIRED: StreamAction.REST,
    CallErrorKind.DENIED: StreamAction.STOP,
    # ResourceNotFoundException: no such stream.
    CallErrorKind.NOT_FOUND: StreamAction.STOP,
    # InvalidArgumentException, InvalidKMSResourceException, InvalidSourceException.
    CallErrorKind.OTHER: StreamAction.STOP,
}


def of_record(code: str) -> StreamAction:
    """What becomes of one record with an ErrorCode; an unknown one is not tried again."""
    return StreamAction.AGAIN if code in RECORDS else StreamAction.REST
