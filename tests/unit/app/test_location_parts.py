"""What the settings make of location ingest."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.app.location_parts import consistent, limits, opensearch_access, overflow_stream
from gateway.errors import SettingsError
from gateway.locations.buffer import Limits
from gateway.locations.packing import BULK_DOCUMENTS
from gateway.settings.model import Locations

GOOD = Locations(opensearch_url="https://search.example.com:9200")


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("index_prefix", {"index_prefix": "Locations"}),
        ("index_prefix", {"index_prefix": "_x"}),
        ("index_prefix", {"index_prefix": "a*"}),
        ("index_prefix", {"index_prefix": "a-2b"}),
        ("firehose_stream", {"opensearch_url": "", "firehose_stream": "s"}),
        ("firehose_stream", {"firehose_stream": "arn:aws:firehose:eu-west-1:1:deliverystream/s"}),
        ("ack_min", {"ack_min": "firehose"}),
        ("opensearch_key_file", {"opensearch_key_file": "k.pem"}),
        ("opensearch_user", {"opensearch_user": "u", "opensearch_sign_region": "eu-west-1"}),
    ],
)
def test_what_does_not_fit_together_is_named(key: str, change: dict[str, object]) -> None:
    consistent(GOOD)
    with pytest.raises(SettingsError) as told:
        consistent(replace(GOOD, **change))
    assert told.value.key == f"locations.{key}"


@pytest.mark.parametrize(
    "url",
    [
        "search.example.com",
        "ftp://host",
        "https://user:secret@host:9200",
        "https://host:port",
        "https://host/?a=b",
        "https://host/#f",
        "https://",
    ],
)
def test_bad_addresses(url: str) -> None:
    with pytest.raises(SettingsError) as told:
        opensearch_access(replace(GOOD, opensearch_url=url))
    assert told.value.key == "locations.opensearch_url"
    assert "secret" not in str(told.value)


def test_passwords_come_from_a_file_or_the_environment_and_never_in_clear(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("from file\n")
    named = replace(GOOD, opensearch_user="u", opensearch_password_file=str(path))
    assert opensearch_access(named).password == "from file"
    by_variable = replace(GOOD, opensearch_user="u", opensearch_password="other")
    assert opensearch_access(by_variable).password == "other"
    for wrong in (
        replace(GOOD, opensearch_user="u"),
        replace(GOOD, opensearch_password="other"),
        replace(named, opensearch_password_file="nowhere"),
        replace(named, opensearch_url="http://search.example.com"),
    ):
        with pytest.raises(SettingsError):
            opensearch_access(wrong)
    assert opensearch_access(replace(named, opensearch_url="http://127.0.0.1:9200")).user == "u"


def test_files_of_tls_are_tried_at_once() -> None:
    for change in ({"opensearch_ca_file": "nowhere"}, {"opensearch_certificate_file": "nowhere"}):
        with pytest.raises(SettingsError):
            opensearch_access(replace(GOOD, **change))


def test_batches_are_those_of_the_index() -> None:
    assert limits(Locations()) == Limits()
    assert limits(GOOD).batch_events == BULK_DOCUMENTS


def test_without_a_name_there_is_no_stream() -> None:
    assert overflow_stream(Locations(), None, None) is None  # type: ignore[arg-type]
