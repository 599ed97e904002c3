"""Packing what has to be sent into calls that a server takes: by number and by bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

# OpenSearch takes 100 MB by default and 10 MB on small instances of AWS; larger bodies are no faster (opensearch.md).
BULK_DOCUMENTS = 1000
BULK_BYTES = 5 << 20
# Amazon Data Firehose, PutRecordBatch: 500 records, 4 MiB in all, 1,000 KiB a record before base64. Some room is left.
FIREHOSE_RECORDS = 500
FIREHOSE_BYTES = 3_900_000
FIREHOSE_RECORD_BYTES = 1_024_000


def pack(sizes: Sequence[int], max_items: int, max_bytes: int) -> Iterator[range]:
    """Consecutive positions, in order and each once, that fit one call. One that is too large alone is alone."""
    first = size = 0
    for position, more in enumerate(sizes):
        if position > first and (position - first >= max_items or size + more > max_bytes):
            yield range(first, position)
            first, size = position, 0
        size += more
    if sizes:
        yield range(first, len(sizes))
