"""Pages about the websocket: close codes, messages, handshake refusals."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway import __version__
from gateway.api.asyncapi import CLIENT_MESSAGES, SERVER_MESSAGES, document, tag_of
from gateway.channels.commands import MEANINGS as OUTCOMES
from gateway.channels.commands import Outcome
from gateway.channels.refusal import MEANINGS, Refusal
from gateway.channels.senders import REFUSALS
from gateway.connections.admission import RETRY_AFTER_S
from gateway.locations.outcome import Durability
from gateway.protocol.requests import KNOWN
from gateway.wire.close_codes import CLOSE_CODES
from generator.markdown import Row, join, kind, prose, table
from generator.source import codes_of_messages, refusals

# What a device answers is a result.
RESULTS = (Outcome.DONE, Outcome.FAILED)


def asyncapi() -> str:
    """The AsyncAPI document, indented for who reads it."""
    return msgspec.json.format(msgspec.json.encode(document(__version__)), indent=2).decode() + "\n"


def close_codes() -> str:
    rows = [
        (entry.code, f"`{entry.name}`", entry.meaning, str(entry.reconnect), str(entry.fault))
        for entry in CLOSE_CODES.values()
    ]
    return join(
        "# Close codes",
        "Why a websocket was closed (RFC 6455, 7.4; 4000 and above are our own). 1005 and 1006 are never sent: they "
        "stand in logs and metrics for a close without a code and for a connection that broke.",
        "`reconnect` says what the client may do, `fault` whose doing it was in logs and metrics. A close that the "
        "server planned counts as `plan`, one that the peer began as `peer`, whatever its code.",
        table(("code", "name", "meaning", "reconnect", "fault"), rows),
    )


def websocket_messages() -> str:
    if tuple(CLIENT_MESSAGES) != KNOWN:
        raise ValueError(f"gateway.protocol.requests knows {KNOWN}; add the new ones to CLIENT_MESSAGES")
    kinds = [*CLIENT_MESSAGES.values(), *SERVER_MESSAGES]
    schemas, components = msgspec.json.schema_components(kinds, ref_template="{name}")
    named = dict(zip(kinds, (components[schema["$ref"]] for schema in schemas), strict=True))
    parts = [
        "# Messages",
        "The subprotocol `heiwa.v1.json`: one JSON object a text frame, tagged by `type`. Unknown fields are ignored. "
        "A type that is not listed is answered with `error`; a binary frame closes with 1003. "
        "An optional field may be left out; a client may also send null.",
        "The AsyncAPI 3 document is at `/api/v1/asyncapi.json` on the operations listener, and [here](asyncapi.json).",
        "## From the client",
    ]
    for tag, struct in CLIENT_MESSAGES.items():
        parts += [f"### {tag}", prose(struct.__doc__), _fields(tag, named[struct])]
    parts.append("## From the server")
    for answer in SERVER_MESSAGES:
        tag = tag_of(answer)
        parts += [f"### {tag}", prose(answer.__doc__), _fields(tag, named[answer])]
    durabilities = ", ".join(f"`{value.value}`" for value in Durability)
    parts += [
        "## Values",
        f"`durability` of `ack` is one of {durabilities}.",
        table(
            ("answer", "code", "meaning"),
            [(f"`{tag}`", f"`{code}`", text) for tag, code, text in codes_of_messages()],
        ),
        "An `error` with the `id` of a client's `command` says why that has no result:",
        table(
            ("code", "meaning"),
            [
                *[(f"`{code}`", text) for code, text in REFUSALS.items()],
                *[(f"`{outcome.value}`", OUTCOMES[outcome]) for outcome in Outcome if outcome not in RESULTS],
            ],
        ),
        "An `error` with a `channel` says why its events do not come:",
        table(("code", "meaning"), [(f"`{refusal.value}`", MEANINGS[refusal]) for refusal in Refusal]),
    ]
    return join(*parts)


def _fields(tag: str, schema: dict[str, Any]) -> str:
    required = schema.get("required", [])
    rows: list[Row] = [("`type`", "always", f"`{tag}`")]
    for name, field in schema["properties"].items():
        if name != "type":
            rows.append((f"`{name}`", "always" if name in required else "optional", kind(_present(field))))
    return table(("field", "present", "type"), rows)


def _present(field: dict[str, Any]) -> dict[str, Any]:
    """What an optional field holds when it is there."""
    kinds = [part for part in field.get("anyOf", ()) if part.get("type") != "null"]
    if not kinds:
        return field
    return kinds[0] if len(kinds) == 1 else {"anyOf": kinds}


def handshake_refusals() -> str:
    least_s, most_s = RETRY_AFTER_S
    return join(
        "# Handshake refusals",
        "A refused handshake is a plain HTTP answer with a problem (RFC 9457): `status`, `title` and `detail`. "
        "`status` and `reason` are also the labels of the metric `heiwa_handshakes_refused_total`.",
        f"429, 409 and 503 carry `Retry-After`: {least_s:g} to {most_s:g} s, drawn for each; for `flapping`, that "
        "much after what is left of `connections.flap_holdoff_s`.",
        table(("status", "reason", "detail"), [(status, f"`{reason}`", text) for status, reason, text in refusals()]),
        "Status 0 in the metric: there was no answer. `gone`: the peer left. `tls`: the TLS handshake failed, "
        "or took too long. `pending`, `memory`, `handshakes`, `proxy`: refused before any cryptography, where TLS is "
        "spoken.",
    )
