"""Clients of AWS services as this program uses them: no retries of their own, short time-outs, errors turned into ours.

The SDK is imported when the first client is made. It reads its own environment, so a stand-in is `AWS_ENDPOINT_URL_…`;
credentials come from its provider chain, which renews those that expire, and are never copied here.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

from gateway.errors import CallError, CallErrorKind

CONNECT_TIMEOUT_S = 2.0
READ_TIMEOUT_S = 4.0
# One call with all it needs: credentials, DNS, connection, answer.
CALL_TIMEOUT_S = 8.0
# Of who asks twice a minute at most for what lasts minutes, or has nothing else to ask: a slow API is not a silent one.
PATIENT_TIMEOUT_S = 25.0
# New clients cost 0.1 s of CPU and, for a while, 1 MB: where they do not help, they are made more and more rarely.
RENEW_MIN_S = 30.0
RENEW_MAX_S = 960.0
PERMISSION = {
    "elbv2": "elasticloadbalancing",
    "batch": "batch",
    "ecs": "ecs",
    "firehose": "firehose",
    "application-autoscaling": "application-autoscaling",
    "cloudwatch": "cloudwatch",
}
NAMES = {
    "elbv2": "Elastic Load Balancing",
    "batch": "AWS Batch",
    "ecs": "Amazon ECS",
    "firehose": "Amazon Data Firehose",
    "application-autoscaling": "Application Auto Scaling",
    "cloudwatch": "Amazon CloudWatch",
}


def _codes(text: str) -> frozenset[str]:
    return frozenset(text.split())


# AWS general reference, "Common errors", and the codes that botocore retries as throttling (retries/standard.py).
THROTTLED = _codes(
    "Throttling ThrottlingException ThrottledException RequestThrottled RequestThrottledException RequestLimitExceeded "
    "TooManyRequestsException BandwidthLimitExceeded SlowDown"
)
EXPIRED = _codes("ExpiredToken ExpiredTokenException TokenRefreshRequired RequestExpired")
DENIED = _codes(
    "AccessDenied AccessDeniedException UnauthorizedOperation NotAuthorized OptInRequired AuthFailure "
    "InvalidClientTokenId UnrecognizedClientException InvalidAccessKeyId SignatureDoesNotMatch IncompleteSignature "
    "MissingAuthenticationToken MissingAuthenticationTokenException InvalidSignatureException"
)
NOT_FOUND = _codes("TargetGroupNotFound ClusterNotFoundException ServiceNotFoundException ResourceNotFoundException")


def region_of(environment: Mapping[str, str], *arns: str) -> str | None:
    """`AWS_REGION`, else `AWS_DEFAULT_REGION`, else the region of the first ARN that has one; None: the SDK's files.

    ECS sets AWS_REGION, which the SDK does not read.
    """
    named = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    return named or next((parts[3] for parts in (arn.split(":") for arn in arns) if len(parts) > 4 and parts[3]), None)


class AwsClients:
    """One client a service, kept open. Calls are bounded in time and raise CallError.

    `calls` may overlap; cancelling one is harmless.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        call_timeout_s: float = CALL_TIMEOUT_S,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._environment = environment
        self._call_timeout_s = call_timeout_s
        self._monotonic_s = monotonic_s
        self._open = _Open()
        # What the SDK has read of the services' models: most of the work of making a client.
        self._models: Any = None
        self._retired: list[_Open] = []
        self._renew_from_s = float("-inf")
        self._renew_period_s = RENEW_MIN_S
        self._making = asyncio.Lock()
        self._running = 0

    async def call(self, service: str, operation: str, arn: str = "", /, *, absent: str = "", **parameters: Any) -> Any:
        """The parsed answer of one operation (`describe_…`), a dict with the API's names.

        `arn` tells the region when no variable does. None: the answer was the error code `absent`. Raises CallError;
        after `expired` and `denied` the next call looks for credentials anew: there may have been none yet.
        """
        self._running += 1
        try:
            with poll_errors(service, operation):
                async with asyncio.timeout(self._call_timeout_s):
                    client = await self._client(service, arn)
                    try:
                        answer = await getattr(client, operation)(**parameters)
                    except client.exceptions.ClientError as error:
                        if not absent or _part(error.response, "Error").get("Code") != absent:
                            raise
                        answer = None
            self._renew_period_s = RENEW_MIN_S
        except CallError as error:
            if error.kind in (CallErrorKind.EXPIRED, CallErrorKind.DENIED):
                self._renew()
            raise
        else:
            return answer
        finally:
            self._running -= 1
            # Another call may still use what was retired.
            if not self._running:
                await self._close_retired()

    async def close(self) -> None:
        """Close all clients; a call in progress ends with an error."""
        self._retired.append(self._open)
        self._open = _Open()
        await self._close_retired()

    def _renew(self) -> None:
        now_s = self._monotonic_s()
        if now_s >= self._renew_from_s:
            self._renew_from_s = now_s + self._renew_period_s
            self._renew_period_s = min(2 * self._renew_period_s, RENEW_MAX_S)
            self._retired.append(self._open)
            self._open = _Open()

    async def _close_retired(self) -> None:
        while self._retired:
            await self._retired.pop().stack.aclose()

    async def _client(self, service: str, arn: str) -> Any:
        async with self._making:
            into = self._open
            client = into.clients.get(service)
            if client is None:
                # The answer may take what is left of the call's time, where that is long.
                read_timeout_s = max(READ_TIMEOUT_S, self._call_timeout_s - CONNECT_TIMEOUT_S - READ_TIMEOUT_S)
                config = await asyncio.to_thread(_load, read_timeout_s)
                from aiobotocore.session import get_session

                if into.session is None:
                    into.session = get_session()
                    if self._models is None:
                        self._models = into.session.get_component("data_loader")
                    into.session.register_component("data_loader", self._models)
                region = region_of(self._environment, arn)
                made = into.session.create_client(service, region_name=region, config=config)
                client = into.clients[service] = await into.stack.enter_async_context(made)
            return client


class _Open:
    """A session, its clients by service, and what closes them."""

    def __init__(self) -> None:
        self.session: Any = None
        self.clients: dict[str, Any] = {}
        self.stack = AsyncExitStack()


def _load(read_timeout_s: float) -> Any:
    """Import the SDK, off the event loop: it takes a third of a second."""
    import aiobotocore.session  # noqa: F401
    from aiobotocore.config import AioConfig

    # The attempts count the first one. The one who polls backs off, for the whole fleet.
    return AioConfig(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=read_timeout_s,
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=4,
        warm_up_loader_caches=True,
    )


@contextmanager
def poll_errors(service: str, operation: str) -> Iterator[None]:
    """Turn the SDK's exceptions into CallError; a message holds codes and names, never what a server wrote.

    A refused signature is answered with the request's headers, the session token among them.
    """
    try:
        yield
    except TimeoutError as error:
        raise CallError(CallErrorKind.UNREACHABLE, f"{NAMES[service]} did not answer in time") from error
    except Exception as error:
        raise _explain(service, operation, error) from error


def _explain(service: str, operation: str, error: Exception) -> CallError:
    """What an exception of the SDK means."""
    from aiohttp import ClientError as TransportError
    from botocore import exceptions as sdk

    name = NAMES[service]
    match error:
        case sdk.ClientError():
            return _answered(service, operation, error.response)
        case sdk.HTTPClientError() | sdk.ConnectionError():
            where = urlsplit(str(error.kwargs.get("endpoint_url", ""))).netloc.rpartition("@")[2]
            place = f" at {where}" if where else ""
            return CallError(CallErrorKind.UNREACHABLE, f"{name} cannot be reached{place} ({type(error).__name__})")
        case TransportError():
            return CallError(CallErrorKind.UNREACHABLE, f"{name} broke off its answer ({type(error).__name__})")
        case sdk.NoCredentialsError() | sdk.PartialCredentialsError():
            return CallError(CallErrorKind.DENIED, f"no credentials for {name}: give the task a role")
        case sdk.CredentialRetrievalError() | sdk.MetadataRetrievalError() | sdk.SSOError() | sdk.LoginError():
            return CallError(CallErrorKind.EXPIRED, f"the credentials for {name} could not be renewed")
        case sdk.NoRegionError():
            return CallError(CallErrorKind.OTHER, "no region: set AWS_REGION")
        # After those above: the SDK's time-outs and its trouble with TLS are OSErrors, too, without a number or a word.
        case OSError() if not isinstance(error, sdk.BotoCoreError):
            return CallError(CallErrorKind.UNREACHABLE, f"{name} cannot be reached: {error.strerror}")
    # The SDK's parsers raise whatever comes to them at JSON of another shape, or at what is no UTF-8.
    return CallError(CallErrorKind.OTHER, f"{name} gave no usable answer ({type(error).__name__})")


def _answered(service: str, operation: str, response: Any) -> CallError:
    code = _plain(_part(response, "Error").get("Code"))
    status = _part(response, "ResponseMetadata").get("HTTPStatusCode", 0)
    kind = _kind(code, status)
    action = "".join(word.title() for word in operation.split("_"))
    said = f"{NAMES[service]} answered {action} with {code} (HTTP {status})"
    if kind is CallErrorKind.DENIED:
        said += f": allow {PERMISSION[service]}:{action} in the task role"
    return CallError(kind, said)


def _kind(code: str, status: int) -> CallErrorKind:
    if code in THROTTLED or status == 429:
        return CallErrorKind.THROTTLED
    if code in EXPIRED:
        return CallErrorKind.EXPIRED
    if code in DENIED:
        return CallErrorKind.DENIED
    if code in NOT_FOUND:
        return CallErrorKind.NOT_FOUND
    if status >= 500:
        return CallErrorKind.UNREACHABLE
    return CallErrorKind.DENIED if status in (401, 403) else CallErrorKind.OTHER


def _part(response: Any, name: str) -> Any:
    """A part of an error's answer; the SDK makes one out of whatever came."""
    part = response.get(name)
    return part if isinstance(part, dict) else {}


def _plain(code: object) -> str:
    """A code as AWS forms them; anything else is dropped."""
    text = str(code)
    return text if re.fullmatch(r"[A-Za-z0-9._]{1,64}", text) else "an unknown error"
