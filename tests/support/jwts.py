"""Tokens built piece by piece, so that each piece can be wrong."""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64encode
from typing import Any

SECRET = b"0123456789abcdef0123456789abcdef"
NOW_S = 1_750_000_000.0
CLAIMS = {"sub": "dev-1", "account": "acme", "scope": "location:write", "exp": NOW_S + 3600}


def encode(raw: bytes) -> str:
    """base64url without padding."""
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def token(payload: Any = CLAIMS, header: Any = None, secret: bytes = SECRET, algorithm: str = "sha256") -> str:
    """A token with a signature of its own; `payload` and `header` are JSON values, or bytes as they are."""
    header = {"alg": "HS256", "typ": "JWT"} if header is None else header
    parts = [encode(part if isinstance(part, bytes) else json.dumps(part).encode()) for part in (header, payload)]
    signed = ".".join(parts)
    return f"{signed}.{encode(hmac.digest(secret, signed.encode(), algorithm))}"
