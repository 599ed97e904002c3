"""Strategies for what a client may send: legal frames of every kind, and every kind of illegal one."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import strategies as st

from tests.support.wire import BINARY, CLOSE, CONT, PING, PONG, TEXT, client_frame, close_payload

# Small, because the oracle goes byte by byte; larger frames have tests of their own.
MAX_BYTES = 2000

masks = st.sampled_from([b"\x11\x22\x33\x44", b"\0\0\0\0", b"\xff\xfe\xfd\xfc"])
sizes = st.one_of(
    st.integers(0, 130),
    st.sampled_from([124, 125, 126, 127, 255, 256, MAX_BYTES - 1, MAX_BYTES]),
)
small_text = st.text(max_size=40).map(str.encode)
sized_text = st.builds(lambda size, letter: (letter * size).encode()[:size], sizes, st.sampled_from(["a", "{"]))
texts = st.one_of(small_text, sized_text)
control = st.one_of(st.binary(max_size=20), st.binary(min_size=125, max_size=125))
not_text = st.sampled_from(
    [b"\xff", b"ok\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf", b"\xe2\x28\xa1", b"\xf0\x9f\x98"]
)
good_codes = st.sampled_from([1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999])
bad_codes = st.sampled_from([0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535])

pings = st.builds(lambda data, mask: client_frame(PING, data, mask=mask), control, masks)
pongs = st.builds(lambda data, mask: client_frame(PONG, data, mask=mask), control, masks)
whole_texts = st.builds(lambda data, mask: client_frame(TEXT, data, mask=mask), texts, masks)
# RFC 6455, 5.2 asks for the minimal number of bytes; the Sans-I/O layer takes any.
long_winded = st.builds(
    lambda data, size: client_frame(TEXT, data, length_bytes=size), small_text, st.sampled_from([2, 8])
)


def _fragments(message: bytes, cuts: list[int], between: list[bytes]) -> bytes:
    """The message in fragments, with control frames between them. Cuts may fall within a character."""
    edges = [0, *sorted(min(cut, len(message)) for cut in cuts), len(message)]
    stream = b""
    for index, (start, end) in enumerate(pairwise(edges)):
        stream += client_frame(CONT if index else TEXT, message[start:end], final=index == len(edges) - 2)
        if index < len(between):
            stream += between[index]
    return stream


def fragmented(messages: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.builds(
        _fragments,
        messages,
        st.lists(st.integers(0, 60), min_size=1, max_size=4),
        st.lists(st.one_of(pings, pongs), max_size=3),
    )


legal = st.one_of(whole_texts, whole_texts, pings, pongs, long_winded, fragmented(small_text), st.just(b""))

closes = st.one_of(
    st.just(client_frame(CLOSE)),
    st.builds(lambda code, why: client_frame(CLOSE, close_payload(code, why.encode()[:60])), good_codes, st.text("aé")),
)

_illegal_closes = st.one_of(
    st.just(client_frame(CLOSE, b"\x03")),
    st.builds(lambda code: client_frame(CLOSE, close_payload(code)), bad_codes),
    st.builds(lambda why: client_frame(CLOSE, close_payload(1000, why)), not_text),
)
_broken_headers = st.one_of(
    st.builds(lambda opcode: client_frame(opcode, b"x"), st.sampled_from([3, 4, 5, 6, 7, 11, 12, 13, 14, 15])),
    st.builds(
        lambda bits, opcode: client_frame(opcode, b"x", reserved=bits), st.integers(1, 7), st.sampled_from([1, 9])
    ),
    st.builds(lambda opcode: client_frame(opcode, b"x", mask=None), st.sampled_from([TEXT, PING, PONG, CLOSE])),
    st.builds(lambda opcode: client_frame(opcode, b"x", final=False), st.sampled_from([PING, PONG, CLOSE])),
    st.builds(lambda opcode: client_frame(opcode, b"x" * 126), st.sampled_from([PING, PONG, CLOSE])),
    st.builds(lambda opcode: client_frame(opcode, b"x", length_bytes=2), st.sampled_from([PING, PONG])),
)
_too_large = st.one_of(
    st.just(client_frame(TEXT, b"a" * (MAX_BYTES + 1))),
    st.builds(lambda size: client_frame(TEXT, b"a", claimed=size, length_bytes=8), st.sampled_from([2**31, 2**63])),
    st.just(client_frame(TEXT, b"a" * 1500, final=False) + client_frame(CONT, b"a" * 501)),
)
_out_of_order = st.one_of(
    st.just(client_frame(CONT, b"x")),
    st.just(client_frame(TEXT, b"a", final=False) + client_frame(TEXT, b"b")),
    st.just(client_frame(TEXT, b"a", final=False) + client_frame(CLOSE, close_payload(1000))),
)
illegal = st.one_of(
    _illegal_closes,
    _broken_headers,
    _too_large,
    _out_of_order,
    st.builds(lambda data: client_frame(BINARY, data), st.binary(max_size=20)),
    st.builds(lambda data: client_frame(TEXT, data), not_text),
    fragmented(not_text),
    fragmented(st.builds(lambda good, bad: good + bad, small_text, not_text)),
)

# Mostly legal traffic, then perhaps an end, then what nobody may listen to any more.
streams = st.builds(
    lambda before, end, after: [*before, end, *after],
    st.lists(legal, max_size=6),
    st.one_of(st.just(b""), closes, illegal, st.binary(max_size=30)),
    st.lists(legal, max_size=2),
)
