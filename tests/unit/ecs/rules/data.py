"""The stream and the domain."""

from __future__ import annotations

from typing import Any

from tests.support.cloudformation import Stack
from tests.unit.ecs.rules.registry import (
    data_rule,
)
from tests.unit.ecs.stacks import as_list


def _destination(stack: Stack) -> dict[str, Any]:
    found: dict[str, Any] = stack["Stream"]["AmazonopensearchserviceDestinationConfiguration"]
    return found


@data_rule
def overflow_has_no_id_of_firehoses(stack: Stack) -> None:
    """Its own would store a document twice that came both ways. Its index is one, and the pipeline chooses the day."""
    destination = _destination(stack)
    assert destination["DocumentIdOptions"] == {"DefaultDocumentIdFormat": "NO_DOCUMENT_ID"}
    assert destination["IndexRotationPeriod"] == "NoRotation"
    assert destination["IndexName"] == "locations-overflow"
    assert stack["Stream"]["DeliveryStreamType"] == "DirectPut"


@data_rule
def what_cannot_be_delivered_is_kept(stack: Stack) -> None:
    """The longest retries, then the bucket, which outlives the stack and is nobody else's."""
    destination = _destination(stack)
    assert destination["RetryOptions"] == {"DurationInSeconds": 7200}
    assert destination["S3BackupMode"] == "FailedDocumentsOnly"
    assert destination["S3Configuration"]["BucketARN"] == "<FailedDocuments.Arn>"
    bucket = stack["FailedDocuments"]
    assert all(bucket["PublicAccessBlockConfiguration"].values())
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    for name in ("FailedDocuments", "Domain"):
        assert stack.template["Resources"][name]["DeletionPolicy"] == "Retain"


@data_rule
def firehose_reaches_the_domain_before_it_is_asked(stack: Stack) -> None:
    """Its buffers stay below the domain's largest request (10 MiB); its permissions are there before it."""
    destination = _destination(stack)
    assert destination["BufferingHints"] == {"IntervalInSeconds": 10, "SizeInMBs": 5}
    assert stack.template["Resources"]["Stream"]["DependsOn"] == "StreamPolicy"
    assert destination["DomainARN"] == "<Domain.Arn>"
    assert destination["VpcConfiguration"]["SecurityGroupIds"] == ["<StreamSecurityGroup.GroupId>"]
    assert destination["CloudWatchLoggingOptions"]["Enabled"] is True
    actions = {
        action for one in stack["StreamPolicy"]["PolicyDocument"]["Statement"] for action in as_list(one["Action"])
    }
    assert {"es:ESHttpPost", "es:ESHttpPut", "es:DescribeDomain", "s3:PutObject", "logs:PutLogEvents"} <= actions


@data_rule
def the_domain_is_closed(stack: Stack) -> None:
    """In the VPC, encrypted everywhere, two nodes in two zones; the roles of this account decide who may."""
    domain = stack["Domain"]
    assert domain["VPCOptions"]["SecurityGroupIds"] == ["<DomainSecurityGroup.GroupId>"]
    assert domain["NodeToNodeEncryptionOptions"] == {"Enabled": True}
    assert domain["EncryptionAtRestOptions"] == {"Enabled": True}
    assert domain["DomainEndpointOptions"]["EnforceHTTPS"] is True
    assert domain["DomainEndpointOptions"]["TLSSecurityPolicy"].startswith("Policy-Min-TLS-1-2")
    (statement,) = domain["AccessPolicies"]["Statement"]
    assert statement["Principal"] == {"AWS": "arn:aws:iam::123456789012:root"}
    cluster = domain["ClusterConfig"]
    assert cluster["InstanceCount"] % cluster["ZoneAwarenessConfig"]["AvailabilityZoneCount"] == 0
    assert cluster["ZoneAwarenessEnabled"] is True
