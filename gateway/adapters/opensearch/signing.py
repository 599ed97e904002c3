"""AWS Signature Version 4 for requests to OpenSearch, by the SDK, which is imported when the first one is signed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from yarl import URL

from gateway.errors import StoreError, UnsignedError

# Above this, hashing takes longer than the loop may be blocked.
_LARGE_BYTES = 64 << 10
# The SDK answers from memory until the keys are near their end (15 minutes).
RENEW_EVERY_S = 5.0


class Signer:
    """Signs for one region and service (`es`, or `aoss` for a serverless collection).

    Credentials come from the SDK's provider chain. It is asked in a task, `opensearch-credentials`, and only the first
    signature waits for it: near the end of the keys it takes seconds a call while their source is away.
    """

    def __init__(self, region: str, service: str, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._region = region
        self._service = service
        self._monotonic_s = monotonic_s
        self._source: Any = None
        self._keys: Any = None
        self._none_set_up = False
        self._problem = ""
        self._asked_s = float("-inf")
        self._renewal: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Ask for no more credentials."""
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)

    async def sign(self, method: str, url: URL, headers: Mapping[str, str], body: bytes | None) -> dict[str, str]:
        """The headers with the signature's. Raises UnsignedError, and StoreError where no credentials are set up."""
        keys = await self._current()
        if body is not None and len(body) > _LARGE_BYTES:
            return await asyncio.to_thread(self._signed, keys, method, url, headers, body)
        return self._signed(keys, method, url, headers, body)

    async def _current(self) -> Any:
        now_s = self._monotonic_s()
        done = self._renewal is None or self._renewal.done()
        if done and now_s - self._asked_s >= RENEW_EVERY_S:
            self._asked_s = now_s
            self._renewal = asyncio.create_task(self._renew(), name="opensearch-credentials")
        if self._keys is None and self._renewal is not None:
            await asyncio.shield(self._renewal)
        if self._keys is None:
            raise (StoreError if self._none_set_up else UnsignedError)(self._problem)
        return self._keys

    async def _renew(self) -> None:
        """Never raises: keys that still are valid serve on."""
        try:
            if self._source is None:
                await asyncio.to_thread(_load)
                from aiobotocore.session import get_session

                self._source = await get_session().get_credentials()
            self._none_set_up = self._source is None
            if self._none_set_up:
                self._problem = "no credentials to sign requests to OpenSearch: give the task a role"
            else:
                self._keys = await self._source.get_frozen_credentials()
        except Exception as error:
            # Each provider of the chain has exceptions of its own.
            self._problem = f"the credentials to sign requests could not be renewed ({type(error).__name__})"

    def _signed(
        self, keys: Any, method: str, url: URL, headers: Mapping[str, str], body: bytes | None
    ) -> dict[str, str]:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        # What a proxy may change is not signed.
        kept = {name: value for name, value in headers.items() if name != "Accept-Encoding"}
        request = AWSRequest(method, str(url), kept, body)
        if self._service == "aoss":
            from hashlib import sha256

            request.headers["X-Amz-Content-SHA256"] = sha256(body or b"").hexdigest()
        SigV4Auth(keys, self._service, self._region).add_auth(request)
        return {**headers, **dict(request.headers.items())}


def _load() -> None:
    import aiobotocore.session  # noqa: F401
