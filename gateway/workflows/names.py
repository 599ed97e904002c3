"""The names of attempts and of nested runs: the same for whoever works them out, so that nothing begins twice."""

from __future__ import annotations

import hashlib
import hmac
from uuid import UUID

from gateway.workflows.run import Attempt


def public_id(run: str, attempt: Attempt) -> str:
    """How the attempt is called in job names, paths and logs: 32 hexadecimal digits. It gives no right to anything."""
    return _digest("attempt", run, attempt).hex()[:32]


def attempt_secret(key: bytes, public: str) -> str:
    """What proves to us that a job speaks for an attempt: 64 hexadecimal digits. Never part of a name, a path or a log.

    `key` is the store's: whoever shares the store makes and checks the same secrets.
    """
    return hmac.new(key, b"attempt\0" + public.encode(), hashlib.sha256).hexdigest()


def child_run(run: str, attempt: Attempt) -> str:
    """The id of the nested run that an attempt is (a UUID of version 8; RFC 9562, 5.8)."""
    number = int.from_bytes(_digest("child", run, attempt)[:16], "big")
    number = number & ~(0xF << 76) | 8 << 76
    return str(UUID(int=number & ~(0b11 << 62) | 0b10 << 62))


def _digest(kind: str, run: str, attempt: Attempt) -> bytes:
    told = "\0".join((kind, run, attempt.path, str(attempt.iteration), str(attempt.number)))
    return hashlib.sha256(told.encode()).digest()
