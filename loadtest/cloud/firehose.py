"""A delivery stream of Amazon Data Firehose with an OpenSearch destination, without sockets: limits, buffer, retries.

Amazon Data Firehose API reference (2015-08-04) and developer guide, "Data delivery". Where AWS does not say what
happens, this is what was chosen:

- a document that OpenSearch answers with 409 counts as delivered: it is there;
- within the retry window every document that failed is sent again, with those behind it, at each interval;
- throttling is a token bucket with a second's worth in it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from loadtest.cloud.place import ACCOUNT, REGION

MAX_RECORDS, MAX_CALL_BYTES, MAX_RECORD_BYTES = 500, 4 << 20, 1_024_000
QUOTA_BYTES_PER_S = 5 << 20


class FirehoseError(Exception):
    """An answer that is an error: `code` and `status` (HTTP) as AWS sends them."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


@dataclass(slots=True)
class StreamRecord:
    """A record that the stream took: when it arrived (seconds), and how often its delivery was tried."""

    data: bytes
    arrived_s: float
    attempts: int = 0
    error_code: str = ""
    error_message: str = ""


@dataclass(slots=True)
class DeliveryStream:
    """One stream. `failing`: the fraction of records that fail although the call succeeds. `doubled`: the fraction that
    is delivered twice. `shuffled`: deliveries lose their order. `document_id`: FIREHOSE_DEFAULT or NO_DOCUMENT_ID."""

    name: str
    index: str
    document_id: str = "NO_DOCUMENT_ID"
    buffer_bytes: int = 1 << 20
    interval_s: float = 60.0
    retry_s: float = 7200.0
    backup: str = "FailedDocumentsOnly"
    quota_bytes_per_s: float = QUOTA_BYTES_PER_S
    failing: float = 0.0
    doubled: float = 0.0
    shuffled: bool = False
    buffered: list[StreamRecord] = field(default_factory=list)
    taken: int = 0
    delivered: int = 0
    failed: int = 0

    @property
    def arn(self) -> str:
        """As AWS forms them."""
        return f"arn:aws:firehose:{REGION}:{ACCOUNT}:deliverystream/{self.name}"

    @property
    def size_bytes(self) -> int:
        """What waits to be delivered."""
        return sum(len(record.data) for record in self.buffered)


class Firehose:
    """Streams by name; `now_s` is a monotonic clock."""

    def __init__(self, now_s: Callable[[], float], random: Random) -> None:
        self.streams: dict[str, DeliveryStream] = {}
        self._now_s = now_s
        self._random = random
        self._buckets: dict[str, tuple[float, float]] = {}

    def add(self, stream: DeliveryStream) -> DeliveryStream:
        """Make one."""
        self.streams[stream.name] = stream
        return stream

    def answer(self, action: str, body: dict[str, Any]) -> dict[str, Any]:
        """What an operation answers. Raises FirehoseError."""
        match action:
            case "PutRecordBatch":
                return self._put_batch(self._stream(body), body.get("Records"))
            case "PutRecord":
                answer = self._put_batch(self._stream(body), [body.get("StreamRecord")])
                if answer["FailedPutCount"]:
                    raise FirehoseError("ServiceUnavailableException", "Slow down.", 503)
                return {"RecordId": answer["RequestResponses"][0]["RecordId"], "Encrypted": False}
            case "DescribeDeliveryStream":
                return {"DeliveryStreamDescription": _described(self._stream(body))}
        raise FirehoseError("UnknownOperationException", f"no such operation: {action}")

    def _stream(self, body: dict[str, Any]) -> DeliveryStream:
        name = body.get("DeliveryStreamName")
        if name not in self.streams:
            text = f"Firehose {name} under account {ACCOUNT} not found."
            raise FirehoseError("ResourceNotFoundException", text)
        return self.streams[name]

    def _put_batch(self, stream: DeliveryStream, records: Any) -> dict[str, Any]:
        data = _checked(records)
        size = sum(map(len, data))
        if not self._take(stream, size):
            raise FirehoseError("ServiceUnavailableException", "Slow down.", 503)
        responses: list[dict[str, Any]] = []
        now_s = self._now_s()
        for one in data:
            if self._random.random() < stream.failing:
                responses.append({"ErrorCode": "ServiceUnavailableException", "ErrorMessage": "Slow down."})
                continue
            stream.taken += 1
            stream.buffered.append(StreamRecord(one, now_s))
            responses.append({"RecordId": f"r{stream.taken:040d}"})
        failed = sum("ErrorCode" in response for response in responses)
        return {"FailedPutCount": failed, "Encrypted": False, "RequestResponses": responses}

    def _take(self, stream: DeliveryStream, size: int) -> bool:
        now_s, rate = self._now_s(), stream.quota_bytes_per_s
        left, seen_s = self._buckets.get(stream.name, (rate, now_s))
        left = min(rate, left + (now_s - seen_s) * rate)
        enough = size <= left
        self._buckets[stream.name] = (left - size if enough else left, now_s)
        return enough

    def due(self, stream: DeliveryStream, *, everything: bool = False) -> list[StreamRecord]:
        """What is to be delivered now: the buffer is full, or its oldest record has waited for the interval."""
        if not stream.buffered:
            return []
        oldest_s = min(record.arrived_s for record in stream.buffered)
        full = stream.size_bytes >= stream.buffer_bytes or self._now_s() - oldest_s >= stream.interval_s
        if not full and not everything:
            return []
        records, stream.buffered = stream.buffered, []
        records += [record for record in records if self._random.random() < stream.doubled]
        if stream.shuffled:
            self._random.shuffle(records)
        return records

    def settle(
        self, stream: DeliveryStream, records: Sequence[StreamRecord], errors: Sequence[tuple[str, str]]
    ) -> list[StreamRecord]:
        """What OpenSearch answered for each record (code and message; "": delivered); those that failed for good."""
        failed: list[StreamRecord] = []
        for record, (code, message) in zip(records, errors, strict=True):
            record.attempts += 1
            if not code:
                stream.delivered += 1
                continue
            record.error_code, record.error_message = code, message
            if self._now_s() - record.arrived_s >= stream.retry_s:
                stream.failed += 1
                failed.append(record)
            else:
                stream.buffered.append(record)
        return failed


def failure_object(record: StreamRecord, stream: DeliveryStream, now_ms: int) -> dict[str, Any]:
    """One line of an object in the backup bucket, under `AmazonOpenSearchService_failed/`."""
    return {
        "attemptsMade": record.attempts,
        "arrivalTimestamp": now_ms,
        "errorCode": record.error_code,
        "errorMessage": record.error_message,
        "attemptEndingTimestamp": now_ms,
        "rawData": base64.b64encode(record.data).decode(),
        "esDocumentId": None,
        "esIndexName": stream.index,
        "esTypeName": None,
    }


def _checked(records: Any) -> list[bytes]:
    if not isinstance(records, list) or not 1 <= len(records) <= MAX_RECORDS:
        raise FirehoseError(
            "InvalidArgumentException",
            "1 validation error detected: Value at 'records' failed to satisfy constraint: Member must have length "
            f"less than or equal to {MAX_RECORDS}",
        )
    try:
        data = [base64.b64decode(record["Data"], validate=True) for record in records]
    except (KeyError, TypeError, ValueError) as error:
        raise FirehoseError("SerializationException", "not base64") from error
    if any(len(one) > MAX_RECORD_BYTES for one in data):
        raise FirehoseError("InvalidArgumentException", f"a record is larger than {MAX_RECORD_BYTES} bytes")
    if sum(map(len, data)) > MAX_CALL_BYTES:
        raise FirehoseError("InvalidArgumentException", f"Records size exceeds {MAX_CALL_BYTES} bytes")
    return data


def _described(stream: DeliveryStream) -> dict[str, Any]:
    destination = {
        "RoleARN": f"arn:aws:iam::{ACCOUNT}:role/firehose",
        "DomainARN": f"arn:aws:es:{REGION}:{ACCOUNT}:domain/locations",
        "IndexName": stream.index,
        "IndexRotationPeriod": "NoRotation",
        "BufferingHints": {
            "IntervalInSeconds": round(stream.interval_s),
            "SizeInMBs": max(1, stream.buffer_bytes >> 20),
        },
        "RetryOptions": {"DurationInSeconds": round(stream.retry_s)},
        "S3BackupMode": stream.backup,
        "DocumentIdOptions": {"DefaultDocumentIdFormat": stream.document_id},
    }
    return {
        "DeliveryStreamName": stream.name,
        "DeliveryStreamARN": stream.arn,
        "DeliveryStreamStatus": "ACTIVE",
        "DeliveryStreamType": "DirectPut",
        "VersionId": "1",
        "HasMoreDestinations": False,
        "Destinations": [
            {
                "DestinationId": "destinationId-000000000001",
                "AmazonopensearchserviceDestinationDescription": destination,
            }
        ],
    }
