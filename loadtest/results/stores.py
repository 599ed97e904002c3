"""Looks for acknowledged events in what the gateways stored: in their data folders, or through their search API."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec.structs import replace

from gateway.adapters import receipt_files
from gateway.errors import UnreachableError
from gateway.identity.token import mint
from loadtest.results.records import Judged
from loadtest.results.union import EventKey, StoredEvents, acked_files, data_folder
from loadtest.results.union import judge as judge_union

PAGE = 1000
TIMEOUT_S = 60


async def judge(
    folders: Sequence[Path], operations: Sequence[str], secret: str, account: str, acked: Sequence[Path], events: int
) -> Judged:
    """Loss and doubling over all stores. `operations` are addresses such as `http://10.0.0.1:8081`.

    Raises UnreachableError when an API does not answer.
    """
    stores = [data_folder(folder, account) for folder in folders]
    stores += [search_api(address, secret, account) for address in operations]
    judged = await asyncio.to_thread(
        judge_union, stores, acked_files(acked, account), events, time.time_ns() // 1_000_000
    )
    return judged if folders else replace(judged, through=sorted(operations))


def search_api(address: str, secret: str, account: str) -> StoredEvents:
    """All events of an account, from all pages of a gateway's search."""

    def indexed() -> Iterator[EventKey]:
        claims = {"sub": "loadtest", "account": account, "scope": "location:read", "exp": time.time() + 3600}
        token = mint(claims, secret.encode())
        cursor = ""
        while True:
            query = f"{address}/api/v1/locations/search?bbox=-180,-90,180,90&limit={PAGE}{cursor}"
            request = urllib.request.Request(query, headers={"Authorization": f"Bearer {token}"})
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                    page = json.load(answer)
            except (OSError, urllib.error.URLError) as error:
                raise UnreachableError(f"the search of {address} does not answer: {error}") from error
            yield from ((event["device"], event["id"]) for event in page["events"])
            if page["next"] is None:
                return
            cursor = f"&cursor={page['next']}"

    return StoredEvents(indexed)


def remove(folders: Sequence[Path], files: Sequence[Path]) -> None:
    """Remove what was only needed to judge. Receipts of drains stay, beside the folder that they were in."""
    for folder in folders:
        for receipt in folder.glob(f"{receipt_files.PREFIX}*"):
            receipt.rename(folder.with_name(f"{folder.name}.{receipt.name}"))
        shutil.rmtree(folder, ignore_errors=True)
    for file in files:
        file.unlink(missing_ok=True)
