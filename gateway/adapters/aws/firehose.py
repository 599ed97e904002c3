"""The OverflowStream port on Amazon Data Firehose.

Facts of the API reference (PutRecordBatch) and of "Quotas" that shape this: 500 records and 4 MiB a call, 1,000 KiB a
record; single records fail while the call succeeds (`FailedPutCount`); 5 MiB a second a stream in the large regions,
1 MiB elsewhere; each record is billed as at least 5 KB, so only what the index refuses comes here.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from gateway.adapters.aws.clients import AwsClients, region_of
from gateway.clock import Clock
from gateway.errors import CallError
from gateway.locations.batch import DeviceEvents
from gateway.locations.congestion import Quota
from gateway.locations.document import stream_records
from gateway.locations.outcome import Rejection
from gateway.locations.packing import FIREHOSE_BYTES, FIREHOSE_RECORD_BYTES, FIREHOSE_RECORDS, pack
from gateway.locations.stream_outcome import CALLS, StreamAction, of_record
from gateway.telemetry.log import Log

SERVICE = "firehose"
# "Amazon Data Firehose quotas": Direct PUT, by region.
LARGE_REGIONS = frozenset({"us-east-1", "us-west-2", "eu-west-1"})
LARGE_QUOTA_BYTES, QUOTA_BYTES = 5 << 20, 1 << 20
CALL_TIMEOUT_S = 4.0
ATTEMPTS = 3
_PAUSE_S = 0.2
_NO_ANSWER = "no answer"
FIRST_REST_S, LAST_REST_S, STOP_S = 0.5, 10.0, 30.0

_log = Log("firehose")


class FirehoseStream:
    """One delivery stream. Calls may overlap. `quota_bytes_per_s` 0: that of the region."""

    def __init__(
        self,
        name: str,
        clock: Clock,
        random: Random,
        quota_bytes_per_s: int = 0,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._name = name
        self._clock = clock
        self._random = random
        self._clients = AwsClients(environment, CALL_TIMEOUT_S)
        large = region_of(environment) in LARGE_REGIONS
        self._quota = Quota(quota_bytes_per_s or (LARGE_QUOTA_BYTES if large else QUOTA_BYTES))
        self._rest_until_s = float("-inf")
        self._rest_s = FIRST_REST_S
        self._why = Rejection("Firehose was not asked yet")
        self._counts = dict.fromkeys(("taken", "again", "refused", "over_quota"), 0)

    async def open(self) -> None:
        """See the port. The SDK is loaded with the first record that overflows."""

    async def close(self) -> None:
        """See the port."""
        await self._clients.close()

    async def put(self, groups: Sequence[DeviceEvents]) -> Mapping[int, Rejection]:
        """See the port; never raises."""
        records = list(stream_records(groups))
        # Base64 counts: what the limit of a call is about is not said.
        sizes = [len(record) * 4 // 3 + 32 for record in records]
        rejections: dict[int, Rejection] = {}
        for part in pack(sizes, FIREHOSE_RECORDS, FIREHOSE_BYTES):
            positions = [position for position in part if len(records[position]) <= FIREHOSE_RECORD_BYTES]
            if len(positions) < len(part):
                rejections.update(dict.fromkeys(set(part) - set(positions), Rejection("larger than Firehose takes")))
            if positions:
                rejections.update(await self._put_part(records, positions))
        self._counts["refused"] += len(rejections)
        self._counts["taken"] += len(records) - len(rejections)
        return rejections

    async def _put_part(self, records: Sequence[bytes], positions: Sequence[int]) -> Mapping[int, Rejection]:
        now_s = self._clock.monotonic_s()
        if now_s < self._rest_until_s:
            return dict.fromkeys(positions, self._why)
        if not self._quota.take(sum(len(records[position]) for position in positions), now_s):
            self._counts["over_quota"] += len(positions)
            return dict.fromkeys(positions, Rejection("above the quota of the Firehose stream"))
        left: Sequence[int] = positions
        code = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                self._counts["again"] += len(left)
                await asyncio.sleep(self._random.uniform(0.0, _PAUSE_S * 2**attempt))
            try:
                failed = await self._call([records[position] for position in left])
            except CallError as error:
                self._rest(error)
                return dict.fromkeys(left, self._why)
            given_up = [left[place] for place, code in failed.items() if of_record(code) is not StreamAction.AGAIN]
            code = next(iter(failed.values()), "")
            left = [left[place] for place in failed]
            if given_up or not left:
                break
        self._rest_s = FIRST_REST_S
        return dict.fromkeys(left, Rejection(f"Firehose did not take the record: {code}"))

    async def _call(self, data: Sequence[bytes]) -> dict[int, str]:
        """The ErrorCode of each record that failed, by its place. Raises CallError."""
        answer: Any = await self._clients.call(
            SERVICE,
            "put_record_batch",
            DeliveryStreamName=self._name,
            Records=[{"Data": record} for record in data],
        )
        return failed_records(answer, len(data))

    def _rest(self, error: CallError) -> None:
        """Leave the stream alone for a while."""
        now_s = self._clock.monotonic_s()
        if now_s < self._rest_until_s:
            return
        self._why = Rejection(str(error))
        if CALLS[error.kind] is StreamAction.STOP:
            self._rest_until_s = now_s + STOP_S
            _log.critical("firehose_unusable", problem=str(error), stream=self._name)
            return
        self._rest_until_s = now_s + self._rest_s * self._random.uniform(0.5, 1.0)
        self._rest_s = min(2 * self._rest_s, LAST_REST_S)
        _log.error("firehose_failed", problem=str(error), stream=self._name)

    def collect(self) -> Iterator[Metric]:
        """Metric families for a Prometheus registry."""
        records = CounterMetricFamily(
            "heiwa_firehose_records", "Records by what became of them; `again`: sent once more.", labels=["outcome"]
        )
        for name, number in self._counts.items():
            records.add_metric([name], number)
        yield records
        rests = int(self._clock.monotonic_s() < self._rest_until_s)
        yield GaugeMetricFamily("heiwa_firehose_left_alone", "1: nothing is sent there: alarm.", rests)


def failed_records(answer: Mapping[str, Any], number: int) -> dict[int, str]:
    """The ErrorCode of each of the `number` records that failed, by its place.

    One without a RecordId failed, too: it is then stored elsewhere, under the same identity.
    """
    responses = answer.get("RequestResponses")
    found = responses[:number] if isinstance(responses, list) else []
    failed = {place: code for place, response in enumerate(found) if (code := _code(response))}
    return failed | dict.fromkeys(range(len(found), number), _NO_ANSWER)


def _code(response: Any) -> str:
    """The ErrorCode of one record; "" for one that was taken."""
    if not isinstance(response, dict):
        return _NO_ANSWER
    code = response.get("ErrorCode")
    return str(code) if code else "" if response.get("RecordId") else _NO_ANSWER
