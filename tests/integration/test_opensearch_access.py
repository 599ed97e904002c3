"""Who we are to OpenSearch: basic authentication, mutual TLS, SigV4; compressed bodies; and retention policies.

The node of the tests has no plugin for security nor for retention: servers of our own stand in for them.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aiohttp import web
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from gateway.adapters.clock import SystemClock
from gateway.adapters.opensearch import signing
from gateway.adapters.opensearch.bulk import Bulk, Extra
from gateway.adapters.opensearch.cluster import Change, Cluster
from gateway.adapters.opensearch.connection import Access, Connection, NoAnswerError
from gateway.adapters.opensearch.definitions import Names
from gateway.adapters.opensearch.index import OpenSearchLocationIndex
from gateway.errors import IndexBusyError, StoreError
from gateway.locations.batch import DeviceEvents
from gateway.locations.bulk_outcome import Action, Answer, Silence, of_request
from gateway.locations.congestion import Window
from gateway.locations.document import bulk_lines
from gateway.locations.event import LocationEvent
from gateway.locations.query import Query
from tests.support.certificate import make_certificate

Handler = Callable[[web.Request], Any]


class Server:
    """Remembers the requests it was sent."""

    def __init__(self) -> None:
        self.requests: list[tuple[web.Request, bytes]] = []
        self.policies: dict[str, Any] = {}

    async def start(self, context: ssl.SSLContext | None = None) -> str:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        self.runner = web.AppRunner(application, access_log=None)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0, ssl_context=context).start()
        scheme = "https" if context else "http"
        return f"{scheme}://127.0.0.1:{self.runner.addresses[0][1]}"

    async def _answer(self, request: web.Request) -> web.Response:
        self.requests.append((request, await request.read()))
        if request.path == "/redirect":
            return web.Response(status=302, headers={"Location": "http://127.0.0.1:9/?token=secret"})
        return web.json_response({})


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    yield made
    await made.runner.cleanup()


async def test_basic_authentication_and_no_redirects(server: Server) -> None:
    connection = Connection(Access(await server.start(), user="us:er", password="pässword"))
    assert (await connection.request("GET", "/redirect")).status == 302
    await connection.close()
    ((request, _),) = server.requests
    assert request.headers["Authorization"] == "Basic " + b64encode("us:er:pässword".encode()).decode()
    assert request.headers["Accept-Encoding"] == "identity"


async def test_where_a_redirect_leads_is_told_without_what_may_be_secret(server: Server) -> None:
    connection = Connection(Access(await server.start()))
    assert (await connection.request("GET", "/redirect")).body == b"it leads to http://127.0.0.1:9/"
    await connection.close()


@pytest.mark.parametrize("size", [10, 200_000])
async def test_signatures_are_what_aws_computes(server: Server, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAHEIWA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-real-secret")
    connection = Connection(Access(await server.start(), sign_region="eu-west-1"))
    body = b"x" * size
    await connection.request("POST", "/a%20b-*.*.*/_search", body, query={"filter_path": "items.*,a", "b": "1"})
    await connection.close()
    ((request, received),) = server.requests
    assert received == body
    given = request.headers["Authorization"]
    signed = given.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    headers = {name: value for name, value in request.headers.items() if name.lower() in signed}
    repeated = AWSRequest("POST", str(request.url), headers, body)
    repeated.context["timestamp"] = request.headers["X-Amz-Date"]
    signer = SigV4Auth(Credentials("AKIAHEIWA", "not-a-real-secret"), "es", "eu-west-1")
    canonical = signer.canonical_request(repeated)
    expected = signer.signature(signer.string_to_sign(repeated, canonical), repeated)
    assert given.endswith(f"Signature={expected}")
    assert "/eu-west-1/es/aws4_request" in given


async def test_without_credentials_nothing_is_sent(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    connection = Connection(Access(await server.start(), sign_region="eu-west-1"))
    with pytest.raises(StoreError, match="credentials"):
        await connection.request("GET", "/")
    await connection.close()
    assert not server.requests


async def test_mutual_tls(server: Server, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificate))
    context.load_cert_chain(certificate, key)
    context.verify_mode = ssl.CERT_REQUIRED
    url = await server.start(context)
    ours = Access(url, ca_file=str(certificate), certificate_file=str(certificate), key_file=str(key))
    with_certificate, without = Connection(ours), Connection(Access(url, ca_file=str(certificate)))
    assert (await with_certificate.request("GET", "/")).status == 200
    with pytest.raises(NoAnswerError):
        await without.request("GET", "/")
    stranger = Connection(Access(url))
    with pytest.raises(NoAnswerError) as told:
        await stranger.request("GET", "/")
    assert told.value.silence is Silence.NOT_SENT
    for connection in (with_certificate, without, stranger):
        await connection.close()


class Hasty(Server):
    """Closes the connection instead of answering, so many times."""

    closing = 0

    async def _answer(self, request: web.Request) -> web.Response:
        self.requests.append((request, await request.read()))
        if self.closing and request.transport is not None:
            self.closing -= 1
            request.transport.abort()
        return web.json_response({"timed_out": False})


@pytest.mark.parametrize(("closing", "found"), [(0, True), (1, True), (2, False)])
async def test_a_search_is_sent_again_once_on_a_connection_that_was_just_closed(closing: int, found: bool) -> None:
    server = Hasty()
    index = OpenSearchLocationIndex(Access(await server.start()), "locations", SystemClock(), Random(1))
    server.closing = closing
    if found:
        assert await index.search("a", Query()) == ([], False)
    else:
        with pytest.raises(IndexBusyError):
            await index.search("a", Query())
    assert len(server.requests) == min(closing, 1) + 1
    await index.close()
    await server.runner.cleanup()


class Door(Server):
    """Lets in whoever has the password."""

    password = ""

    async def _answer(self, request: web.Request) -> web.Response:
        right = "Basic " + b64encode(f"us:{self.password}".encode()).decode()
        return web.json_response({}, status=200 if request.headers["Authorization"] == right else 401)


async def test_a_password_that_is_replaced_is_read_again(tmp_path: Path) -> None:
    file, door = tmp_path / "password", Door()
    file.write_text("first\n")
    door.password = "first"
    connection = Connection(Access(await door.start(), user="us", password="first", password_file=str(file)))
    assert (await connection.request("GET", "/")).status == 200
    door.password = "second"
    assert (await connection.request("GET", "/")).status == 401
    file.unlink()
    # One that is away or unreadable for a moment changes nothing.
    assert (await connection.request("GET", "/")).status == 401
    file.write_text("second\n")
    assert (await connection.request("GET", "/")).status == 401
    assert (await connection.request("GET", "/")).status == 200
    await connection.close()
    await door.runner.cleanup()


async def test_a_certificate_that_is_replaced_is_read_again(server: Server, tmp_path: Path) -> None:
    for name in ("ours", "strangers", "used"):
        (tmp_path / name).mkdir()
    ours, strangers = make_certificate(tmp_path / "ours"), make_certificate(tmp_path / "strangers")
    used = [tmp_path / "used" / file.name for file in ours]

    def use(files: tuple[Path, Path]) -> None:
        for file, copy in zip(files, used, strict=True):
            copy.write_bytes(file.read_bytes())

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(ours[0]))
    context.load_cert_chain(*ours)
    context.verify_mode = ssl.CERT_REQUIRED
    url = await server.start(context)
    use(strangers)
    connection = Connection(Access(url, "", "", "", str(ours[0]), str(used[0]), str(used[1])))
    with pytest.raises(NoAnswerError):
        await connection.request("GET", "/")
    # Replaced in two steps: a certificate without its key changes nothing.
    used[0].write_bytes(ours[0].read_bytes())
    with pytest.raises(NoAnswerError):
        await connection.request("GET", "/")
    use(ours)
    with pytest.raises(NoAnswerError):
        await connection.request("GET", "/")
    assert (await connection.request("GET", "/")).status == 200
    await connection.close()


class Role(Server):
    """Gives the credentials of a container's role for two seconds each, or fails, or hangs."""

    failing = False

    def __init__(self) -> None:
        super().__init__()
        self.free = asyncio.Event()
        self.free.set()

    async def _answer(self, request: web.Request) -> web.Response:
        self.requests.append((request, b""))
        await self.free.wait()
        if self.failing:
            return web.Response(status=500)
        ends = datetime.now(UTC) + timedelta(seconds=2)
        found = {"AccessKeyId": "AKIAHEIWA", "SecretAccessKey": "s", "Token": f"t{len(self.requests)}"}
        return web.json_response({**found, "Expiration": f"{ends:%Y-%m-%dT%H:%M:%SZ}"})


@pytest.fixture
async def role(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Role]:
    made = Role()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{await made.start()}/role")
    yield made
    await made.runner.cleanup()


async def test_requests_wait_for_the_first_credentials_only(
    server: Server, role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = Connection(Access(await server.start(), sign_region="eu-west-1"))
    await connection.request("GET", "/")
    role.free.clear()
    monkeypatch.setattr(signing, "RENEW_EVERY_S", 0.0)
    for _ in range(5):
        await connection.request("GET", "/")
    await connection.close()
    role.free.set()
    assert len({request.headers["X-Amz-Security-Token"] for request, _ in server.requests}) == 1


async def test_credentials_that_cannot_be_had_are_no_answer(server: Server, role: Role) -> None:
    role.failing = True
    connection = Connection(Access(await server.start(), sign_region="eu-west-1"))
    for _ in range(2):
        with pytest.raises(NoAnswerError, match="CredentialRetrievalError") as told:
            await connection.request("GET", "/")
        assert told.value.silence is Silence.UNSIGNED
    assert of_request(Answer(silence=Silence.UNSIGNED)) is Action.STOP
    await connection.close()
    assert not server.requests


async def test_bodies_are_compressed_where_asked(server: Server) -> None:
    connection = Connection(Access(await server.start(), gzip=True))
    for size in (10, 5000, 200_000):
        await connection.request("POST", "/_bulk", b"y" * size, lines=True)
    await connection.close()
    for (request, body), size in zip(server.requests, (10, 5000, 200_000), strict=True):
        # The server's framework has unpacked it already.
        assert (request.headers.get("Content-Encoding") == "gzip") is (size > 1024)
        assert (gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body) == b"y" * size


class Plain(Server):
    """Takes documents, but no compressed bodies."""

    def __init__(self, refusal: web.Response | None) -> None:
        super().__init__()
        self.refusal = refusal

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests.append((request, body))
        if request.headers.get("Content-Encoding") is None:
            created = [{"create": {"status": 201}}] * (body.count(b"\n") // 2)
            return web.json_response({"errors": False, "items": created})
        if self.refusal is None:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return self.refusal


NEWLINE = {"type": "illegal_argument_exception", "reason": "The bulk request must be terminated by a newline [\\n]"}


@pytest.mark.parametrize(
    "refusal",
    [
        lambda: web.json_response({"error": NEWLINE, "status": 400}, status=400),
        lambda: web.Response(status=415),
        lambda: web.Response(status=500),
        lambda: None,
    ],
)
async def test_who_does_not_unpack_bodies_is_sent_plain_ones(refusal: Callable[[], web.Response | None]) -> None:
    server = Plain(refusal())
    connection = Connection(Access(await server.start(), gzip=True))
    bulk = Bulk(connection, SystemClock(), Random(1), Window())
    events = [LocationEvent(f"e{number}", 1, 1.0, 2.0) for number in range(50)]
    delivery = await bulk.send(bulk_lines("locations", [DeviceEvents("a", "d", events)]), Extra())
    await connection.close()
    await server.runner.cleanup()
    assert not delivery.rejections
    assert len(server.requests) == 2


class Plugin(Server):
    """A cluster with Index State Management, as its documentation has it; everything else is there already."""

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        name = request.path.rpartition("/")[2]
        if request.path == "/":
            return web.json_response({"version": {"number": "2.19.0", "distribution": "opensearch"}})
        if "/_ism/" not in request.path:
            error = {"type": "resource_already_exists_exception", "reason": "there"}
            made = request.path.startswith(("/_index_template", "/_ingest"))
            return web.json_response({} if made else {"error": error}, status=200 if made else 400)
        if request.method == "GET":
            found = self.policies.get(name)
            return web.json_response(found or {}, status=200 if found else 404)
        known = self.policies.get(name)
        if known and request.query.get("if_seq_no") != str(known["_seq_no"]):
            return web.json_response({"error": {"type": "version_conflict_engine_exception"}}, status=409)
        number = known["_seq_no"] + 1 if known else 0
        self.policies[name] = {"_seq_no": number, "_primary_term": 1, "policy": json.loads(body)["policy"]}
        return web.json_response({}, status=200 if known else 201)


async def test_the_retention_policy_is_made_kept_and_changed() -> None:
    plugin = Plugin()
    connection = Connection(Access(await plugin.start()))
    done = []
    for days in (30, 30, 7):
        cluster = Cluster(connection, Names("locations"), days)
        done.append(await cluster._put_policy())
    assert [change.done for change in done] == ["made", "unchanged", "changed"]
    assert done[0] == Change("retention policy", "made")
    policy = plugin.policies["locations"]["policy"]
    assert policy["states"][0]["transitions"][0]["conditions"] == {"min_index_age": "8d"}
    assert policy["ism_template"][0]["index_patterns"] == ["locations-2*.*.*"]
    assert (await cluster.version()) == "2.19.0"
    await connection.close()
    await plugin.runner.cleanup()
