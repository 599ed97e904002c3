"""What becomes of an answer of the overflow stream (Amazon Data Firehose), and of each of its records: one table."""

from __future__ import annotations

from enum import Enum

from gateway.drain.health import PollErrorKind


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
CALLS: dict[PollErrorKind, StreamAction] = {
    PollErrorKind.THROTTLED: StreamAction.REST,
    # No answer, or one of 500 and above such as ServiceUnavailableException.
    PollErrorKind.UNREACHABLE: StreamAction.REST,
    PollErrorKind.EXPIRED: StreamAction.REST,
    PollErrorKind.DENIED: StreamAction.STOP,
    # ResourceNotFoundException: no such stream.
    PollErrorKind.NOT_FOUND: StreamAction.STOP,
    # InvalidArgumentException, InvalidKMSResourceException, InvalidSourceException.
    PollErrorKind.OTHER: StreamAction.STOP,
}


def of_record(code: str) -> StreamAction:
    """What becomes of one record with an ErrorCode; an unknown one is not tried again."""
    return StreamAction.AGAIN if code in RECORDS else StreamAction.REST
