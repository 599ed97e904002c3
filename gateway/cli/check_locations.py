"""`heiwa check`: the location index and the overflow stream. What is written to try a permission is nothing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.app import location_parts
from gateway.cli.result import Result
from gateway.drain.outlook import BAD, GOOD, WARN
from gateway.errors import ClusterError, StoreError, UnreachableError
from gateway.settings.model import Locations, Settings

OPENSEARCH, FIREHOSE = "locations.opensearch_url", "locations.firehose_stream"
# The developer guide's longest, and what the spool's owner would wait for at most.
LONGEST_INTERVAL_S, SHORTEST_RETRY_S = 60, 3600
TEMPLATE_MEND = "change the stream: docs/how-to/opensearch.md has its settings"


def results(settings: Settings, environment: Mapping[str, str] = os.environ) -> Iterator[Result]:
    """What serves location events, and what is wrong with it. Raises SettingsError."""
    location_parts.consistent(settings.locations)
    if settings.locations.opensearch_url:
        yield from asyncio.run(_opensearch(settings.locations))
    else:
        yield _embedded(settings, environment)
    if settings.locations.firehose_stream:
        yield from asyncio.run(_firehose(settings.locations, environment))


def _embedded(settings: Settings, environment: Mapping[str, str]) -> Result:
    on_ecs = "ECS_CONTAINER_METADATA_URI_V4" in environment
    if settings.drain.target_group_arns or (on_ecs and settings.drain.enabled):
        said = "the embedded index behind a load balancer: each task finds only what it took in itself"
        return Result(OPENSEARCH, WARN, said, f"set {OPENSEARCH}, unless there is one task only")
    return Result(OPENSEARCH, GOOD, "not set: the embedded index keeps locations on this machine")


async def _opensearch(found: Locations) -> list[Result]:
    from gateway.adapters.opensearch.cluster import Cluster
    from gateway.adapters.opensearch.connection import Connection, NoAnswerError
    from gateway.adapters.opensearch.definitions import Names

    connection = Connection(location_parts.opensearch_access(found))
    names = Names(found.index_prefix)
    try:
        findings = await Cluster(connection, names, found.retention_days).findings()
        found_there = [
            Result(
                f"opensearch {one.name}",
                GOOD if not one.mend else BAD if one.needed else WARN,
                one.found,
                one.mend,
            )
            for one in findings
        ]
        return found_there + await _permissions(connection, names)
    except UnreachableError as error:
        return [Result(OPENSEARCH, BAD, str(error), "let this machine reach the cluster, and correct the address")]
    except ClusterError as error:
        return [Result(OPENSEARCH, BAD, str(error))]
    except (NoAnswerError, StoreError) as error:
        return [Result(OPENSEARCH, BAD, f"OpenSearch: {error}")]
    finally:
        await connection.close()


async def _permissions(connection: Any, names: Any) -> list[Result]:
    """Search, and write by removing a document that is not there."""
    body = b'{"delete":{"_index":"%b","_id":":"}}\n' % names.latest.encode()
    tried = {
        "write": ("POST", "/_bulk", body, "indices:data/write/bulk on the indices"),
        "search": ("POST", f"/{names.days}/_search", b'{"size":0}', "indices:data/read/search on the indices"),
    }
    tries: list[Result] = []
    for what, (method, path, content, permission) in tried.items():
        answer = await connection.request(method, path, content, lines=what == "write", compress=False)
        good = answer.status == 200 and b'"status":403' not in answer.body
        said = f"this program may {what}" if good else f"this program may not {what}: HTTP {answer.status}"
        mend = "" if good else f"allow {permission} {names.prefix}-*"
        tries.append(Result(f"opensearch {what}", GOOD if good else BAD, said, mend))
    return tries


async def _firehose(found: Locations, environment: Mapping[str, str]) -> list[Result]:
    from gateway.adapters.aws.clients import AwsClients
    from gateway.adapters.opensearch.definitions import Names
    from gateway.errors import CallError

    clients = AwsClients(environment)
    try:
        answer = await clients.call("firehose", "describe_delivery_stream", DeliveryStreamName=found.firehose_stream)
    except CallError as error:
        return [Result(FIREHOSE, BAD, str(error), "correct the name, the region or the task's role")]
    finally:
        await clients.close()
    return list(judge_stream(answer["DeliveryStreamDescription"], Names(found.index_prefix).overflow))


def judge_stream(stream: Mapping[str, Any], index: str) -> Iterator[Result]:
    """What is wrong with a stream that is to fill our overflow index; the arguments are DescribeDeliveryStream's."""
    status = stream.get("DeliveryStreamStatus")
    active = status == "ACTIVE" and stream.get("DeliveryStreamType") == "DirectPut"
    said = f"{stream.get('DeliveryStreamName')} is {status}, {stream.get('DeliveryStreamType')}"
    yield Result(
        FIREHOSE, GOOD if active else BAD, said, "" if active else "an active stream of type DirectPut is needed"
    )
    destination = next(
        (
            one["AmazonopensearchserviceDestinationDescription"]
            for one in stream.get("Destinations", ())
            if "AmazonopensearchserviceDestinationDescription" in one
        ),
        None,
    )
    if destination is None:
        yield Result(FIREHOSE, BAD, "its destination is not OpenSearch", TEMPLATE_MEND)
        return
    yield from _judge_destination(destination, index)


def _judge_destination(destination: Mapping[str, Any], index: str) -> Iterator[Result]:
    buffering = destination.get("BufferingHints", {})
    interval_s, retry_s = (
        buffering.get("IntervalInSeconds"),
        destination.get("RetryOptions", {}).get("DurationInSeconds"),
    )
    name, rotation = destination.get("IndexName"), destination.get("IndexRotationPeriod")
    fixed = name == index and rotation == "NoRotation"
    mend = "" if fixed else f"IndexName {index} and IndexRotationPeriod NoRotation: its pipeline names the day"
    yield Result("firehose index", GOOD if fixed else BAD, f"{name}, {rotation}", mend)
    chosen = destination.get("DocumentIdOptions", {}).get("DefaultDocumentIdFormat", "FIREHOSE_DEFAULT")
    own = chosen == "NO_DOCUMENT_ID"
    yield Result("firehose document id", GOOD if own else WARN, chosen, "" if own else "NO_DOCUMENT_ID writes faster")
    short = interval_s is not None and interval_s <= LONGEST_INTERVAL_S
    said = f"{interval_s} s or {buffering.get('SizeInMBs')} MB"
    mend = "" if short else f"at most {LONGEST_INTERVAL_S} s: so much later are the events found"
    yield Result("firehose buffering", GOOD if short else WARN, said, mend)
    long = retry_s is not None and retry_s >= SHORTEST_RETRY_S
    mend = "" if long else "7200 s: it should outlive an outage of the index"
    yield Result("firehose retries", GOOD if long else WARN, f"for {retry_s} s", mend)
    backup = destination.get("S3BackupMode")
    kept = backup in ("FailedDocumentsOnly", "AllDocuments")
    yield Result("firehose backup", GOOD if kept else BAD, str(backup), "" if kept else "FailedDocumentsOnly")
