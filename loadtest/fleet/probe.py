"""Tries before the first device connects: the tokens, and one handshake with each target."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess

import msgspec

from gateway.decoding import decoder
from gateway.errors import SettingsError, UnreachableError
from loadtest.fleet.connector import Connector
from loadtest.fleet.device import ACCEPT
from loadtest.fleet.options import FleetOptions
from loadtest.fleet.targets import WebsocketTarget

TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 16_384


class _Problem(msgspec.Struct):
    """The part of a problem (RFC 9457) that is for a person."""

    detail: str = ""


_problem = decoder(_Problem)


def tokens_of(options: FleetOptions) -> list[str]:
    """The tokens of all devices from `token_command`; empty without one. Raises SettingsError."""
    if not options.token_command:
        return []
    names = "".join(f"{options.name(slot)}\n" for slot in range(options.devices))
    try:
        done = subprocess.run(options.token_command, input=names.encode(), stdout=subprocess.PIPE, check=False)
    except OSError as error:
        raise SettingsError("token_command", f"{options.token_command[0]}: {error.strerror}") from error
    if done.returncode:
        raise SettingsError("token_command", f"it ended with {done.returncode}")
    tokens = done.stdout.decode(errors="replace").split()
    if len(tokens) != options.devices:
        raise SettingsError("token_command", f"it wrote {len(tokens)} tokens for {options.devices} devices")
    return tokens


async def probe(connector: Connector, options: FleetOptions) -> None:
    """Make one handshake with each target, under a name of its own. Raises UnreachableError saying what to change."""
    for index, one in enumerate(list(connector.targets)):
        try:
            async with asyncio.timeout(TIMEOUT_S):
                answer = await _ask(connector, options, index, one)
        except TimeoutError as error:
            raise UnreachableError(f"{one.url} does not answer within {TIMEOUT_S:g} s") from error
        except ssl.SSLError as error:
            raise UnreachableError(f"{one.url}: {error}; give the certificate's authority as tls_ca_file") from error
        except OSError as error:
            raise UnreachableError(f"{one.url} refuses: {error}. Does a gateway listen there? See urls") from error
        _judge(one, answer)


async def _ask(connector: Connector, options: FleetOptions, index: int, one: WebsocketTarget) -> bytes:
    tls = connector.tls_of(one)
    reader, writer = await asyncio.open_connection(one.host, one.port, ssl=tls)
    try:
        # With a device's own name the handshake would count as its connection.
        writer.write(connector.request(0, index, name="" if options.token_command else f"{options.prefix}probe"))
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 101"):
                answer += await reader.read(MAX_ANSWER_BYTES)
            return answer
        return b""
    finally:
        writer.transport.abort()


def _judge(one: WebsocketTarget, answer: bytes) -> None:
    head, _, body = answer.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 101") and ACCEPT in head:
        return
    status = head[9:12].decode(errors="replace") if head.startswith(b"HTTP/1.") else ""
    try:
        detail = _problem(body).detail
    except msgspec.DecodeError:
        detail = ""
    said = f"HTTP {status}{f', {detail}' if detail else ''}" if status else "no answer in HTTP"
    if status in ("401", "403"):
        raise UnreachableError(f"{one.url} refuses the token ({said}): give the secret of this gateway, see secret")
    if status in ("429", "503"):
        raise UnreachableError(f"{one.url} takes no connections now ({said}): wait, or aim at another, see urls")
    raise UnreachableError(f"{one.url} is not a websocket of this protocol ({said}): see the path and port in urls")
