"""An issuer of tokens with keys of its own, and the server on which it publishes them."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from tests.support.certificate import make_certificate
from tests.support.jwts import CLAIMS

ALGORITHMS = ("ES256", "RS256", "EdDSA")
Answer = Callable[[BaseHTTPRequestHandler], None]


def new_key(algorithm: str) -> Any:
    """A private key for one of the three algorithms."""
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(65_537, 2048) if algorithm == "RS256" else ed25519.Ed25519PrivateKey.generate()


class Key:
    """A private key and what is published of it."""

    def __init__(self, kid: str, algorithm: str = "ES256", private: Any = None) -> None:
        self.kid = kid
        self.algorithm = algorithm
        self.private = private or new_key(algorithm)

    def jwk(self, **changes: Any) -> dict[str, Any]:
        """The public key as a member of a set; a change to None leaves the member out."""
        maker = jwt.algorithms.get_default_algorithms()[self.algorithm]
        made = json.loads(maker.to_jwk(self.private.public_key()))
        made |= {"kid": self.kid, "use": "sig", "alg": self.algorithm} | changes
        return {name: value for name, value in made.items() if value is not None}

    def token(self, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token signed with it."""
        named = {"kid": self.kid} if header is None else header
        return jwt.encode(CLAIMS | claims, self.private, self.algorithm, headers=named)


def key_set(*jwks: Any) -> bytes:
    """A JSON Web Key Set."""
    return json.dumps({"keys": list(jwks)}).encode()


class _Server(ThreadingHTTPServer):
    """Waits for its threads when it is closed, and says nothing of peers that go away."""

    daemon_threads = False

    def handle_error(self, *_: object) -> None:
        """Many of its answers are meant to be broken off."""


class Issuer:
    """Serves what `answer` gives, over HTTPS on 127.0.0.1, until it is closed. `asked` counts the requests."""

    def __init__(self, folder: Path) -> None:
        self.certificate, key = make_certificate(folder)
        self.body = key_set()
        self.answer: Answer = self.give_set
        self.asked = 0
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                issuer.answer(self)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self.url = f"https://127.0.0.1:{self.port}/keys"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Issuer:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def give_set(self, request: BaseHTTPRequestHandler) -> None:
        self.give(request, 200, self.body)

    def give(self, request: BaseHTTPRequestHandler, status: int, body: bytes = b"", **headers: str) -> None:
        """One whole answer."""
        request.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)
