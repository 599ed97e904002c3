"""What the settings make of location ingest: its index, its overflow stream, and how they are reached."""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING, Protocol

from prometheus_client.metrics_core import Metric

from gateway.adapters.hosts import is_local
from gateway.clock import Clock
from gateway.errors import SettingsError
from gateway.locations.buffer import Limits
from gateway.locations.packing import BULK_BYTES, BULK_DOCUMENTS
from gateway.locations.ports import LocationIndex, OverflowStream
from gateway.settings.model import Locations, Settings

if TYPE_CHECKING:
    from gateway.adapters.opensearch.connection import Access

# What an index may be called (OpenSearch, "Index naming restrictions"), with room for the day behind it.
# Nothing in it may look like the year of a day.
_PREFIX = re.compile(r"(?!.*-\d)[a-z0-9][a-z0-9_.-]{0,99}")
_STREAM = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Index(LocationIndex, Protocol):
    """A LocationIndex with what the rest of the program asks about it."""

    @property
    def newest_ms(self) -> int | None:
        """The beginning of the newest day that is stored, in ms since the Unix epoch; None: unknown, or none is."""

    def collect(self) -> Iterator[Metric]:
        """Metric families for a Prometheus registry."""


class Stream(OverflowStream, Protocol):
    """An OverflowStream with its metrics."""

    def collect(self) -> Iterator[Metric]:
        """Metric families for a Prometheus registry."""


def consistent(locations: Locations) -> None:
    """Raises SettingsError for settings that are fine one by one, and not together."""
    if not _PREFIX.fullmatch(locations.index_prefix):
        raise SettingsError(
            "locations.index_prefix",
            f"{locations.index_prefix!r} cannot begin the name of an index: small letters, digits, _ . and -, and no "
            "digit after a -",
        )
    if locations.firehose_stream and not locations.opensearch_url:
        raise SettingsError("locations.firehose_stream", "needs locations.opensearch_url: both end in one index")
    if locations.firehose_stream and not _STREAM.fullmatch(locations.firehose_stream):
        raise SettingsError(
            "locations.firehose_stream", f"{locations.firehose_stream!r} is not the name of a stream (its name, no ARN)"
        )
    if locations.ack_min == "firehose" and not locations.firehose_stream:
        raise SettingsError("locations.ack_min", "firehose needs locations.firehose_stream")
    if locations.opensearch_key_file and not locations.opensearch_certificate_file:
        raise SettingsError("locations.opensearch_key_file", "needs locations.opensearch_certificate_file")
    if locations.opensearch_user and locations.opensearch_sign_region:
        raise SettingsError("locations.opensearch_user", "excludes locations.opensearch_sign_region")


def limits(locations: Locations) -> Limits:
    """What a batch holds: for OpenSearch what one bulk request does."""
    if not locations.opensearch_url:
        return Limits()
    return Limits(batch_events=BULK_DOCUMENTS, batch_bytes=BULK_BYTES, gather_messages=BULK_DOCUMENTS)


def opensearch_access(locations: Locations) -> Access:
    """How to reach the cluster. Raises SettingsError."""
    from gateway.adapters.opensearch.connection import Access, Connection, checked_url

    url = checked_url(locations.opensearch_url)
    password = _password(locations)
    if locations.opensearch_user and url.scheme == "http" and not is_local(url.host or ""):
        raise SettingsError("locations.opensearch_url", "must be https: a password would cross the network in clear")
    access = Access(
        url=locations.opensearch_url,
        user=locations.opensearch_user,
        password=password,
        password_file=locations.opensearch_password_file,
        ca_file=locations.opensearch_ca_file,
        certificate_file=locations.opensearch_certificate_file,
        key_file=locations.opensearch_key_file,
        sign_region=locations.opensearch_sign_region,
        sign_service=locations.opensearch_sign_service,
        timeout_s=locations.opensearch_timeout_s,
        gzip=locations.opensearch_gzip,
    )
    # Reads the files.
    Connection(access)
    return access


def _password(locations: Locations) -> str:
    from gateway.adapters.opensearch.connection import read_password

    file = locations.opensearch_password_file
    password = read_password(file) if file else locations.opensearch_password
    if bool(locations.opensearch_user) != bool(password):
        said = "user without a password" if locations.opensearch_user else "password without a user"
        raise SettingsError("locations.opensearch_user", f"a {said}; set both of them, or none")
    return password


def opensearch_index(settings: Settings, clock: Clock, random: Random) -> Index:
    """The index on OpenSearch, not open yet. Raises SettingsError."""
    from gateway.adapters.opensearch.index import OpenSearchLocationIndex

    locations = settings.locations
    return OpenSearchLocationIndex(
        opensearch_access(locations),
        locations.index_prefix,
        clock,
        random,
        another_way=bool(locations.firehose_stream),
    )


def overflow_stream(locations: Locations, clock: Clock, random: Random) -> Stream | None:
    """Firehose; None: the spool takes its place."""
    if not locations.firehose_stream:
        return None
    from gateway.adapters.aws.firehose import FirehoseStream

    return FirehoseStream(locations.firehose_stream, clock, random, locations.firehose_bytes_per_s)
