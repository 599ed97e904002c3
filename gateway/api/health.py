"""Whether the process lives, whether it wants traffic, and its metrics."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from aiohttp import web
from prometheus_client.exposition import choose_encoder

from gateway.api.call import Call, answer, authorize
from gateway.api.problem import unavailable
from gateway.api.records import Health

METRICS_SCOPE = "metrics:read"


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
    raise unavailable(detail, **({"checks": checks} if verbose else {}))


async def metrics(call: Call) -> web.StreamResponse:
    """In the text format that the scraper asked for."""
    if not (call.api.open_metrics and _is_local(call.request)):
        authorize(call.api, call.request, METRICS_SCOPE)
    encode, media_type = choose_encoder(call.request.headers.get("Accept", ""))
    return web.Response(body=encode(call.api.registry), headers={"Content-Type": media_type})


def _is_local(request: web.Request) -> bool:
    """Whether the asker sits on this machine; one that came through a proxy on this machine does not."""
    if "X-Forwarded-For" in request.headers or "Forwarded" in request.headers:
        return False
    try:
        address = ip_address((request.remote or "").partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
