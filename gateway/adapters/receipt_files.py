"""Receipts of drains as files in the data folder: JSON, and a picture beside it."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from gateway.drain.receipt import Receipt, picture
from gateway.errors import StoreError

PREFIX = "drain-receipt-"
# A task drains once in its life; a machine at home may be stopped often.
_KEPT = 20


class ReceiptFiles:
    """`drain-receipt-TIME.json` and `.svg`, the newest 20."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, receipt: Receipt) -> None:
        """Store it; blocks. Raises StoreError."""
        began = time.strftime("%Y%m%dT%H%M%S", time.gmtime(receipt.began_ms / 1000))
        name = f"{PREFIX}{began}.{receipt.began_ms % 1000:03d}Z-{receipt.origin}"
        try:
            content = msgspec.json.format(msgspec.json.encode(receipt), indent=2)
            for suffix, whole in ((".svg", picture(receipt).encode()), (".json", content + b"\n")):
                # Who looks for receipts finds whole ones.
                unfinished = self._folder / f".{name}{suffix}"
                unfinished.write_bytes(whole)
                unfinished.replace(self._folder / f"{name}{suffix}")
            for suffix in (".json", ".svg"):
                for old in sorted(self._folder.glob(f"{PREFIX}*{suffix}"))[:-_KEPT]:
                    old.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{self._folder}: the receipt cannot be written: {error}") from error
