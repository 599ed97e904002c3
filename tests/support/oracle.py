"""What a connection has to do, by the least clever means: websockets' Sans-I/O layer fed one byte at a time.

To that layer it adds what it leaves to its caller: UTF-8 (1007), and an echo.
"""

from __future__ import annotations

from websockets.frames import Opcode
from websockets.protocol import SEND_EOF, State
from websockets.server import ServerProtocol


class Oracle:
    """The expected `messages`, bytes `out`, end of our side (`ended`) and close code."""

    def __init__(self, max_bytes: int) -> None:
        self._protocol = ServerProtocol(state=State.OPEN, max_size=max_bytes)
        self._message: bytes | None = None
        self._binary = False
        self.messages: list[bytes] = []
        self.out = b""
        self.ended = False

    def feed(self, data: bytes) -> None:
        protocol = self._protocol
        for position in range(len(data)):
            protocol.receive_data(data[position : position + 1])
            for event in protocol.events_received():
                if protocol.state is State.OPEN:
                    self._frame(event.opcode, bytes(event.data), event.fin)  # type: ignore[union-attr]
            self._collect()
            if self.ended:
                return

    @property
    def close_code(self) -> int | None:
        """The code we close with or answer with; None while the connection is open."""
        sent = self._protocol.close_sent
        return None if sent is None else int(sent.code)

    def _frame(self, opcode: Opcode, payload: bytes, final: bool) -> None:
        if opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
            return
        if opcode is not Opcode.CONT:
            self._binary = opcode is Opcode.BINARY
        message = (self._message or b"") + payload
        self._message = None if final else message
        if not self._binary and not may_become_text(message, final):
            self._protocol.fail(1007)
        elif final:
            self.messages.append(message)
            send = self._protocol.send_binary if self._binary else self._protocol.send_text
            send(message)

    def _collect(self) -> None:
        writes = self._protocol.data_to_send()
        self.ended = self.ended or SEND_EOF in writes
        self.out += b"".join(writes)


def may_become_text(data: bytes, whole: bool) -> bool:
    """Whether `data` is UTF-8, or the beginning of it."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return not whole and error.reason == "unexpected end of data" and _is_prefix(data[error.start :])
    return True


def _is_prefix(cut: bytes) -> bool:
    """Whether one to three bytes can begin a character (Unicode 15, table 3-7)."""
    first, rest = cut[0], cut[1:]
    length = 2 if 0xC2 <= first <= 0xDF else 3 if 0xE0 <= first <= 0xEF else 4 if 0xF0 <= first <= 0xF4 else 0
    low, high = {0xE0: (0xA0, 0xBF), 0xED: (0x80, 0x9F), 0xF0: (0x90, 0xBF), 0xF4: (0x80, 0x8F)}.get(
        first, (0x80, 0xBF)
    )
    bounds = [(low, high), (0x80, 0xBF)]
    return len(cut) < length and all(least <= byte <= most for byte, (least, most) in zip(rest, bounds, strict=False))
