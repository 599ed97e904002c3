"""Whether the process lives, whether it wants traffic, and its metrics."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from aiohttp import web

from gateway.api.call import Call, answer, authorize
from gateway.api.exposition import exposition
from gateway.api.operation import Listener, Operation, Parameter
from gateway.api.problem import unavailable
from gateway.api.records import Health
from gateway.api.route import Route

METRICS_SCOPE = "metrics:read"
_OF_PROXIES = frozenset({"forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip"})


async def livez(call: Call) -> web.StreamResponse:
    """The event loop turns: that this is answered at all is the answer."""
    return answer({"status": "alive"})


async def readyz(call: Call) -> web.StreamResponse:
    """200 while connections are wanted, else 503; what is at fault only with `?verbose`."""
    found = call.api.readiness()
    checks: list[dict[str, Any]] = [{"name": name, "ok": ok, "why": why} for name, ok, why in found]
    verbose = "verbose" in call.request.query
    if all(ok for _, ok, _ in found):
        return answer(Health("ready", checks) if verbose else {"status": "ready"})
    detail = "; ".join(f"{name}: {why}" for name, ok, why in found if not ok) if verbose else "not ready"
    extra: dict[str, Any] = {"checks": checks} if verbose else {}
    raise unavailable(detail, **extra)


async def metrics(call: Call) -> web.StreamResponse:
    """In the text format that the scraper asked for."""
    if not (call.api.open_metrics and _is_local(call.request)):
        authorize(call.api, call.request, METRICS_SCOPE)
    text, media_type = await exposition(call.api.registry, call.request.headers.get("Accept", ""))
    return web.Response(body=text, headers={"Content-Type": media_type})


def _is_local(request: web.Request) -> bool:
    """Whether the asker sits on this machine and means it.

    One that came through a proxy on this machine does not, nor does a browser whose page had its own name resolve to
    this machine: both say so in headers.
    """
    if any(name.lower() in _OF_PROXIES or name.lower().startswith("x-forwarded-") for name in request.headers):
        return False
    return _is_loopback(request.remote or "") and _is_loopback(_host(request.headers.get("Host", "")))


def _host(text: str) -> str:
    """The host of a Host header, without its port; "" becomes loopback: HTTP/1.0 has none."""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    host = text.rpartition(":")[0] if text.count(":") == 1 else text
    return "127.0.0.1" if host.lower() in ("", "localhost") else host


def _is_loopback(text: str) -> bool:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


ROUTES = (
    Route(
        Operation("GET", "/livez", "livez", "Whether the process lives.", None, Listener.BOTH, Health),
        livez,
    ),
    Route(
        Operation(
            "GET",
            "/readyz",
            "readyz",
            "Whether it wants traffic; 503 while starting or draining.",
            None,
            Listener.BOTH,
            Health,
            parameters=(Parameter("verbose", "Say what is at fault; its value does not matter."),),
            errors=(503,),
        ),
        readyz,
    ),
    Route(
        Operation(
            "GET",
            "/metrics",
            "metrics",
            "Prometheus metrics; open to this machine, else scope metrics:read.",
            None,
            Listener.OPERATIONS,
            "text/plain",
            errors=(401, 403),
        ),
        metrics,
    ),
)
