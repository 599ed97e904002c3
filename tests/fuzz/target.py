"""Fuzz targets: `python -m tests.fuzz.target frames|handshake|token [libFuzzer options] [corpus folder]`.

A crash is any exception, or a difference from the oracle.
"""

from __future__ import annotations

import logging
import sys
from itertools import pairwise

import atheris

# Before anything imports them, so that coverage of these packages guides the search.
with atheris.instrument_imports(include=["gateway.connections", "websockets"]):
    from gateway.errors import TokenError
    from gateway.identity.token import verify_hs256
    from gateway.wire.handshake import Policy, Rejected, find_end, read_offer, read_unusual_offer
    from tests.support.bench import ECHO, Bench
    from tests.support.offers import outcome
    from tests.support.oracle import Oracle
    from tests.support.wire import CLOSE, client_frame, read_answer, request, server_frames

MAX_BYTES = 1024
OUR_WORDS = (1003, 1007)
TOKEN = "c2VjcmV0.c2VjcmV0.c2VjcmV0"
SECRET = b"x" * 32


def frames(data: bytes) -> None:
    """A connection and the oracle are fed with the same reads."""
    provider = atheris.FuzzedDataProvider(data)
    cuts = provider.ConsumeIntListInRange(provider.ConsumeIntInRange(0, 4), 0, 200)
    stream = b""
    while provider.remaining_bytes() and len(stream) < 4000:
        stream += _frame(provider) if provider.ConsumeIntInRange(0, 7) else provider.ConsumeBytes(12)
    bench = Bench(f"connections.max_message_bytes={MAX_BYTES}")
    _, transport = bench.open()
    oracle = Oracle(MAX_BYTES)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    for start, end in pairwise(edges):
        if start == end:
            continue
        oracle.feed(stream[start:end])
        transport.feed(stream[start:end])
        if bench.session.messages != oracle.messages:
            raise AssertionError(f"messages: {bench.session.messages} instead of {oracle.messages}")
        if (ours := _comparable(bytes(transport.written))) != (theirs := _comparable(oracle.out)):
            raise AssertionError(f"bytes out: {ours} instead of {theirs}")
        if transport.ended != oracle.ended:
            raise AssertionError(f"our side has ended: {transport.ended}")
    transport.finish()
    ((_, code, _),) = bench.hub.disconnects
    if code != (oracle.close_code or 1006):
        raise AssertionError(f"close code {code} instead of {oracle.close_code}")


def _frame(provider: atheris.FuzzedDataProvider) -> bytes:
    """Mostly a legal frame: random bytes alone would hardly ever get past the first header."""
    shape = provider.ConsumeIntInRange(0, 255)
    opcode = (1, 1, 1, 0, 0, 9, 10, 8, 1, 1, 1, 0, 0, 9, shape >> 4, 2)[shape & 15]
    payload = provider.ConsumeBytes(provider.ConsumeIntInRange(0, 140 if shape & 16 else 9))
    return client_frame(
        opcode,
        payload,
        final=shape & 96 != 96,
        mask=None if shape == 255 else provider.ConsumeBytes(4).ljust(4, b"\0"),
        reserved=provider.ConsumeIntInRange(0, 7) if shape == 254 else 0,
        length_bytes=8 if shape == 253 else 2 if shape == 252 else None,
    )


def _comparable(data: bytes) -> list[tuple[int, bytes]]:
    return [
        (frame.opcode, frame.payload[:2] if frame.opcode == CLOSE and frame.close_code in OUR_WORDS else frame.payload)
        for frame in server_frames(data)
    ]


def handshake(data: bytes) -> None:
    """Nothing but Rejected is raised, the library agrees, everybody is answered once, the token is in no answer."""
    provider = atheris.FuzzedDataProvider(data)
    head = bytearray(request(TOKEN, protocols=[ECHO, f"heiwa.bearer.{TOKEN}"]))
    for _ in range(provider.ConsumeIntInRange(0, 4)):
        position = provider.ConsumeIntInRange(0, len(head))
        replaced = provider.ConsumeIntInRange(0, 12)
        head[position : position + replaced] = provider.ConsumeBytes(provider.ConsumeIntInRange(0, 20))
    stream = bytes(head) + provider.ConsumeBytes(300)
    _judge(stream)
    bench = Bench()
    transport = bench.accept()
    cut = provider.ConsumeIntInRange(0, len(stream))
    for part in (stream[:cut], stream[cut:]):
        if part:
            transport.feed(part)
    bench.pass_time(11, 0.5)
    written = transport.take()
    if not written or not written.startswith(b"HTTP/1.1 "):
        raise AssertionError(f"no answer: {written!r}")
    if TOKEN.encode() in written:
        raise AssertionError(f"the token is in the answer: {written!r}")
    answer = read_answer(written)
    if not 400 <= answer.status < 600:
        raise AssertionError(f"refused with {answer.status}")
    if answer.rest or bench.session.events:
        raise AssertionError("more than an answer for a peer without a good token")


def _judge(stream: bytes) -> None:
    try:
        end = find_end(stream)
    except Rejected:
        return
    for compression in (False, True) if end else ():
        policy = Policy((ECHO,), frozenset(), 1000, compression)
        ours = outcome(read_offer, stream[:end], policy)
        if ours != (theirs := outcome(read_unusual_offer, stream[:end], policy)):
            raise AssertionError(f"offer: {ours} instead of {theirs}")


def token(data: bytes) -> None:
    """Nothing but TokenError is raised, and nobody finds a signature."""
    try:
        verify_hs256(data.decode("latin-1"), SECRET)
    except TokenError:
        return
    raise AssertionError("a token was accepted")


TARGETS = {"frames": frames, "handshake": handshake, "token": token}


def main() -> None:
    # The Sans-I/O layer logs what it refuses.
    logging.disable(logging.CRITICAL)
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
