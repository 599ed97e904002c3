"""What we ask of an OpenSearch cluster: an index template, an ingest pipeline, two indices, and a retention policy."""

from __future__ import annotations

from typing import Any, NamedTuple

REFRESH_INTERVAL_S = 1
# Counted up when a definition changes, so that `heiwa check` and `serve` see an old one. What only grew counts by one;
# what programs of before do not get along with begins the next hundred. They start on what only grew: a deploy that is
# rolled back must not find a cluster that it refuses.
VERSION = 1
_HUNDRED = 100


def is_newer(version: Any) -> bool:
    """Whether a later program has made it, and this one may use it."""
    return isinstance(version, int) and version > VERSION and version // _HUNDRED == VERSION // _HUNDRED


_PROPERTIES: dict[str, Any] = {
    "account": {"type": "keyword"},
    "device": {"type": "keyword"},
    "id": {"type": "keyword"},
    "time": {"type": "date", "format": "epoch_millis"},
    "location": {"type": "geo_point"},
    "accuracy": {"type": "float", "index": False},
    "altitude": {"type": "float", "index": False},
    "speed": {"type": "float", "index": False},
    "heading": {"type": "float", "index": False},
    # Kept and returned, never parsed: whatever a device calls its attributes, its positions are taken.
    "attributes": {"type": "object", "enabled": False},
}
_MAPPINGS: dict[str, Any] = {"dynamic": "strict", "properties": _PROPERTIES}

# `_id` and `_index` for what comes by Firehose, which sends no `_id` of ours. With a version, `index` and `create`
# both keep the first copy, so a document that came directly, too, stays one.
_IDENTITY = """
if (ctx.document_id == null || ctx.time == null) {
  throw new IllegalArgumentException('not a record of heiwa: document_id or time is missing');
}
ctx._id = ctx.remove('document_id');
ctx._index = params.prefix + '-' + DateTimeFormatter.ofPattern('uuuu.MM.dd')
  .format(ZonedDateTime.ofInstant(Instant.ofEpochMilli(ctx.time), ZoneId.of('Z')));
ctx._version = 1L;
ctx._version_type = 'external';
"""


class Names(NamedTuple):
    """What things are called, after `locations.index_prefix`."""

    prefix: str

    @property
    def days(self) -> str:
        """The pattern of the daily indices: that of this millennium, so that `a` does not find what `a-b` has."""
        return f"{self.prefix}-2*.*.*"

    @property
    def overflow(self) -> str:
        """The index that Firehose writes to; its pipeline sends every document elsewhere."""
        return f"{self.prefix}-overflow"

    @property
    def latest(self) -> str:
        """The index of latest positions, one document a device."""
        return f"{self.prefix}-latest"

    @property
    def connections(self) -> str:
        """The index of past connections of devices, one document each."""
        return f"{self.prefix}-connections"


def pipeline(names: Names) -> dict[str, Any]:
    """The ingest pipeline of the overflow index."""
    script = {"lang": "painless", "source": " ".join(_IDENTITY.split()), "params": {"prefix": names.prefix}}
    return {
        "description": "heiwa: identity and index of what comes by Firehose",
        "version": VERSION,
        "processors": [{"script": script}],
    }


def template(names: Names) -> dict[str, Any]:
    """The index template of the daily indices."""
    settings = {
        "number_of_shards": "1",
        "auto_expand_replicas": "0-1",
        # Unset, an index without searches for 30 s is not refreshed, and the first search waits.
        "refresh_interval": f"{REFRESH_INTERVAL_S}s",
    }
    return {
        "index_patterns": [names.days],
        "priority": 100,
        "version": VERSION,
        "template": {"settings": {"index": settings}, "mappings": _MAPPINGS},
    }


def overflow_index(names: Names) -> dict[str, Any]:
    """Nothing is ever stored in it; what the pipeline does not send elsewhere must fail."""
    settings = {"number_of_shards": "1", "auto_expand_replicas": "0-1", "default_pipeline": names.overflow}
    return {"settings": {"index": settings}, "mappings": {"dynamic": "strict"}}


def latest_index() -> dict[str, Any]:
    """One document a device; its version is the time of the event. Nothing in it is ever deleted."""
    settings = {
        "number_of_shards": "1",
        "auto_expand_replicas": "0-1",
        "refresh_interval": f"{REFRESH_INTERVAL_S}s",
    }
    return {"settings": {"index": settings}, "mappings": _MAPPINGS}


def connections_index() -> dict[str, Any]:
    """One document a connection: whose it is and when it began, and later how it ended."""
    words = ("account", "device", "connection", "gateway")
    kept = ("address", "class", "reason", "fault", "drain")
    properties: dict[str, Any] = {name: {"type": "keyword"} for name in words}
    properties |= {name: {"type": "keyword", "index": False} for name in kept}
    properties |= {name: {"type": "date", "format": "epoch_millis"} for name in ("connected", "ended", "drain_began")}
    properties["code"] = {"type": "integer", "index": False}
    settings = {
        "number_of_shards": "1",
        "auto_expand_replicas": "0-1",
        "refresh_interval": f"{REFRESH_INTERVAL_S}s",
    }
    return {"settings": {"index": settings}, "mappings": {"dynamic": "strict", "properties": properties}}


def retention_policy(names: Names, days: int) -> dict[str, Any]:
    """For the plugin Index State Management: a daily index is deleted at this age."""
    return {
        "policy": {
            "description": "heiwa: daily indices of locations",
            "default_state": "kept",
            "states": [
                {
                    "name": "kept",
                    "actions": [],
                    "transitions": [{"state_name": "deleted", "conditions": {"min_index_age": f"{days + 1}d"}}],
                },
                {"name": "deleted", "actions": [{"delete": {}}], "transitions": []},
            ],
            "ism_template": [{"index_patterns": [names.days], "priority": 100}],
        }
    }
