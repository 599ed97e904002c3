"""The runner http against a real server on this machine, and the addresses that tenants must not reach through it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from gateway.adapters.http.guard import ForbiddenAddressError, check_address, check_literal, parse_networks
from gateway.adapters.http.runner import OF_ONE, HttpRunner
from gateway.workflows.job_access import JobAccess
from gateway.workflows.names import attempt_secret, public_id
from gateway.workflows.run import Attempt
from gateway.workflows.step import Failed, Finished, Happening, Submitted

ATTEMPT = Attempt("a", 0, 1)
ACCESS = JobAccess("http://127.0.0.1:8082", b"key")
WITHIN_S = 10.0
CALLBACK = ("Heiwa-Callback", "Heiwa-Callback-Authorization")
LOCAL = "127.0.0.0/8"


class Service:
    """Answers as its path says, and remembers who asked."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str | None, bytes]] = []
        self.polls = 0
        self.callbacks: list[dict[str, str]] = []
        self.asked = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        key = request.headers.get("Idempotency-Key")
        self.seen.append((request.method, request.path, key, await request.read()))
        what = request.path.strip("/")
        if what == "calls-back":
            self.callbacks.append({name: request.headers.get(name, "") for name in CALLBACK})
            return web.json_response({}, status=202)
        self.asked.set()
        if what == "redirect":
            raise web.HTTPFound(request.query["to"])
        if what == "later":
            self.polls += 1
            if self.polls < 3:
                return web.json_response({}, status=202, headers={"Location": "/later", "Retry-After": "0"})
            return web.json_response({"done": True})
        if what == "elsewhere":
            return web.json_response({}, status=202, headers={"Location": request.query["to"]})
        if what == "large":
            return web.Response(body=b"x" * 2_000_000)
        if what == "hang":
            await asyncio.sleep(3600)
        if what.isdigit():
            return web.Response(status=int(what), text="told why")
        return web.json_response({"path": what, "said": (await request.read()).decode()})


class Bench:
    def __init__(self, allowed: str) -> None:
        self.reports: asyncio.Queue[Happening] = asyncio.Queue()
        self.number = 0
        self.runner = HttpRunner(
            lambda run, happening: self.reports.put_nowait(happening), parse_networks(allowed), ACCESS
        )

    async def ask(self, url: str, **work: Any) -> Happening:
        """The outcome of one attempt."""
        await self.submit(url, "acme", **work)
        return await self.outcome()

    async def submit(self, url: str, account: str, **work: Any) -> None:
        whole = {"url": url, "method": "POST", "headers": {}, "body": None, "callback": False, **work}
        self.number += 1
        await self.runner.submit("run", account, ATTEMPT._replace(number=self.number), whole)

    async def outcome(self) -> Happening:
        async with asyncio.timeout(WITHIN_S):
            while isinstance(found := await self.reports.get(), Submitted):
                pass
        return found


@pytest.fixture
async def service() -> AsyncIterator[tuple[Service, int]]:
    made = Service()
    application = web.Application(client_max_size=10_000)
    application.router.add_route("*", "/{tail:.*}", made.handle)
    # One of its answers would take an hour.
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "0.0.0.0", 0)
    await site.start()
    yield made, runner.addresses[0][1]
    await runner.cleanup()


@pytest.fixture(params=[LOCAL])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    made = Bench(request.param)
    yield made
    await made.runner.close()


async def test_slow_services_of_one_account_hold_up_no_other(bench: Bench, service: tuple[Service, int]) -> None:
    made, port = service
    for number in range(3 * OF_ONE):
        await bench.submit(f"http://127.0.0.{1 + number % 4}:{port}/hang", "crowd")
    await bench.submit(f"http://127.0.0.1:{port}/quick", "calm")
    assert await bench.outcome() == Finished(ATTEMPT._replace(number=bench.number), {"path": "quick", "said": ""})
    assert sum(path == "/hang" for _, path, _, _ in made.seen) <= OF_ONE


guarded = pytest.mark.parametrize("bench", [""], indirect=True)


async def test_the_answer_is_the_result_and_the_key_that_of_the_attempt(
    bench: Bench, service: tuple[Service, int]
) -> None:
    seen, port = service
    found = await bench.ask(f"http://127.0.0.1:{port}/ok", body={"x": 1})
    assert found == Finished(ATTEMPT, {"path": "ok", "said": '{"x": 1}'})
    assert seen.seen == [("POST", "/ok", public_id("run", ATTEMPT), b'{"x": 1}')]


@pytest.mark.parametrize(("status", "again"), [(400, False), (404, False), (429, True), (500, True), (503, True)])
async def test_what_an_error_leads_to(bench: Bench, service: tuple[Service, int], status: int, again: bool) -> None:
    found = await bench.ask(f"http://127.0.0.1:{service[1]}/{status}")
    assert found == Failed(ATTEMPT, f"status {status}: told why", again=again)


async def test_202_is_asked_again_where_it_says(bench: Bench, service: tuple[Service, int]) -> None:
    assert await bench.ask(f"http://127.0.0.1:{service[1]}/later") == Finished(ATTEMPT, {"done": True})
    assert [method for method, *_ in service[0].seen] == ["POST", "GET", "GET"]


async def test_after_a_crash_it_is_asked_where_it_was(bench: Bench, service: tuple[Service, int]) -> None:
    seen, port = service
    seen.polls = 5
    work: dict[str, Any] = {"url": f"http://127.0.0.1:{port}/ok", "method": "POST", "headers": {}, "body": None}
    await bench.runner.adopt("run", "acme", ATTEMPT, f"http://127.0.0.1:{port}/later", work)
    assert await bench.outcome() == Finished(ATTEMPT, {"done": True})
    await bench.runner.adopt("run", "acme", ATTEMPT._replace(number=2), None, work)
    await bench.outcome()
    assert [(method, path) for method, path, *_ in seen.seen] == [("GET", "/later"), ("POST", "/ok")]
    assert [key for _, _, key, _ in seen.seen] == [public_id("run", ATTEMPT._replace(number=n)) for n in (1, 2)]


async def test_one_that_is_stopped_ends(bench: Bench, service: tuple[Service, int]) -> None:
    asking = asyncio.create_task(bench.ask(f"http://127.0.0.1:{service[1]}/hang"))
    async with asyncio.timeout(WITHIN_S):
        await service[0].asked.wait()
    await bench.runner.stop("run", ATTEMPT)
    found = await asking
    assert isinstance(found, Failed)
    assert found.lost


async def test_an_answer_without_an_end_is_not_read(bench: Bench, service: tuple[Service, int]) -> None:
    found = await bench.ask(f"http://127.0.0.1:{service[1]}/large")
    assert isinstance(found, Failed)
    assert "larger than" in found.error


async def test_a_redirect_to_the_credentials_is_not_followed(bench: Bench, service: tuple[Service, int]) -> None:
    for target in ("http://169.254.170.2/v2/credentials", f"http://127.0.0.1:{service[1]}/ok", "//[::1]/"):
        found = await bench.ask(f"http://127.0.0.1:{service[1]}/redirect?to={target}")
        assert isinstance(found, Failed)
        assert (found.again, "redirects are not followed" in found.error) == (False, True)
        found = await bench.ask(
            f"http://127.0.0.1:{service[1]}/elsewhere?to={target.replace('ok', 'ok')}", method="GET"
        )
        if "127.0.0.1" not in target:
            assert isinstance(found, Failed)
            assert "Location elsewhere" in found.error
    assert {path for _, path, *_ in service[0].seen} <= {"/redirect", "/elsewhere", "/ok"}


HOSTS = """
127.0.0.1 localhost [::1] 0.0.0.0 [::] 127.1 2130706433 0x7f000001 0177.0.0.1 [::ffff:127.0.0.1] [::ffff:7f00:1]
[::127.0.0.1] [64:ff9b::7f00:1] [2002:7f00:1::] 169.254.170.2 169.254.169.254 [fd00:ec2::254] 10.0.0.1 192.168.1.1
172.16.0.1 100.64.0.1 224.0.0.1 255.255.255.255 [fe80::1] 127.0.0.1. LOCALHOST ①②⑦.0.0.1 198.18.0.1
[::ffff:0:127.0.0.1] [64:ff9b:1::7f00:1]
"""


@guarded
@pytest.mark.parametrize("host", HOSTS.split())
async def test_no_address_of_ours_is_reached(bench: Bench, service: tuple[Service, int], host: str) -> None:
    found = await bench.ask(f"http://{host}:{service[1]}/secret")
    assert isinstance(found, Failed), found
    assert service[0].seen == []


@guarded
@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("127.0.0.1", "127.0.0.1 is no public address, and not in workflows.http_networks"),
        ("localhost", "localhost leads to an address that is not public, and not in workflows.http_networks"),
    ],
)
async def test_a_name_is_refused_as_clearly_as_a_number(bench: Bench, host: str, told: str) -> None:
    found = await bench.ask(f"http://{host}:9/secret")
    assert isinstance(found, Failed)
    assert found.error == f"the request failed: {told}"


@guarded
async def test_a_name_that_means_something_else_a_moment_later_changes_nothing(
    bench: Bench, service: tuple[Service, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    async def rebinding(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        address = "203.0.113.7" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", rebinding)
    for _ in range(3):
        assert isinstance(await bench.ask(f"http://evil.example:{service[1]}/secret"), Failed)
    assert service[0].seen == []


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "http://user:secret@127.0.0.1/", "gopher://x", "http:///x", "http://"]
)
async def test_what_is_no_address_is_refused(bench: Bench, url: str) -> None:
    assert isinstance(await bench.ask(url), Failed)


def test_what_a_definition_may_not_ask_for() -> None:
    problem = HttpRunner.problem
    work = {"url": "http://x/", "headers": {}, "callback": False}
    runner: Any = object()
    assert problem(runner, "acme", work) == ""
    assert "url" in problem(runner, "acme", {**work, "url": "file:///etc/passwd"})
    assert "Host" in problem(runner, "acme", {**work, "headers": {"Host": "internal"}})


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0", "127.0.0.1.", "127.0.0.01"])
def test_an_address_in_an_unusual_form_is_not_left_to_the_client(host: str) -> None:
    with pytest.raises(ForbiddenAddressError):
        check_literal(host, ())


def test_listed_networks_are_allowed_and_nothing_beside_them() -> None:
    allowed = parse_networks("10.1.0.0/16, ::1/128")
    check_address("10.1.2.3", allowed)
    check_address("::1", allowed)
    check_address("93.184.216.34", allowed)
    for address in ("10.2.0.1", "127.0.0.1", "::2", "fe80::1%eth0"):
        with pytest.raises(ForbiddenAddressError):
            check_address(address, allowed)


async def test_a_service_may_call_back(bench: Bench, service: tuple[Service, int]) -> None:
    seen, port = service
    url = f"http://127.0.0.1:{port}/calls-back"
    work: dict[str, Any] = {"url": url, "method": "POST", "headers": {}, "body": None, "callback": True}
    await bench.runner.submit("run", "acme", ATTEMPT, work)
    async with asyncio.timeout(WITHIN_S):
        assert await bench.reports.get() == Submitted(ATTEMPT, "callback")
    name = public_id("run", ATTEMPT)
    secret = attempt_secret(b"key", name)
    told = {CALLBACK[0]: f"http://127.0.0.1:8082/api/v1/attempts/{name}/finish", CALLBACK[1]: f"Bearer {secret}"}
    assert seen.callbacks == [told]
    # Who takes it over asks for nothing a second time, and can stop it at once.
    await bench.runner.adopt("run", "acme", ATTEMPT, "callback", work)
    await bench.runner.stop("run", ATTEMPT)
    assert isinstance(await bench.outcome(), Failed)
    assert len(seen.callbacks) == 1


async def test_only_who_may_be_called_back_is_given_the_secret(bench: Bench, service: tuple[Service, int]) -> None:
    seen, port = service
    assert await bench.ask(f"http://127.0.0.1:{port}/calls-back") == Finished(ATTEMPT, {})
    assert seen.callbacks == [dict.fromkeys(CALLBACK, "")]
    off = HttpRunner(lambda run, happening: None, [], JobAccess("", b"key"))
    assert "listen.jobs" in off.problem("acme", {"url": "http://x/", "headers": {}, "callback": True})
    await off.close()
