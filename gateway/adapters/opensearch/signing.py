"""AWS Signature Version 4 for requests to OpenSearch, by the SDK, which is imported when the first one is signed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from yarl import URL

# Above this, hashing takes longer than the loop may be blocked.
_LARGE_BYTES = 64 << 10


class Signer:
    """Signs for one region and service (`es`, or `aoss` for a serverless collection).

    Credentials come from the SDK's provider chain, which renews those that expire; a signature uses a frozen copy.
    """

    def __init__(self, region: str, service: str) -> None:
        self._region = region
        self._service = service
        self._credentials: Any = None

    async def sign(self, method: str, url: URL, headers: Mapping[str, str], body: bytes | None) -> dict[str, str]:
        """The headers with the signature's. Raises StoreError when there are no credentials."""
        credentials = await self._frozen()
        if body is not None and len(body) > _LARGE_BYTES:
            return await asyncio.to_thread(self._signed, credentials, method, url, headers, body)
        return self._signed(credentials, method, url, headers, body)

    async def _frozen(self) -> Any:
        from gateway.errors import StoreError

        if self._credentials is None:
            await asyncio.to_thread(_load)
            from aiobotocore.session import get_session

            self._credentials = await get_session().get_credentials()
        if self._credentials is None:
            raise StoreError("no credentials to sign requests to OpenSearch: give the task a role")
        return await self._credentials.get_frozen_credentials()

    def _signed(
        self, credentials: Any, method: str, url: URL, headers: Mapping[str, str], body: bytes | None
    ) -> dict[str, str]:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        # What a proxy may change is not signed.
        kept = {name: value for name, value in headers.items() if name != "Accept-Encoding"}
        request = AWSRequest(method, str(url), kept, body)
        if self._service == "aoss":
            from hashlib import sha256

            request.headers["X-Amz-Content-SHA256"] = sha256(body or b"").hexdigest()
        SigV4Auth(credentials, self._service, self._region).add_auth(request)
        return {**headers, **dict(request.headers.items())}


def _load() -> None:
    import aiobotocore.session  # noqa: F401
