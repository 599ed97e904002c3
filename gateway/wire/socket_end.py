"""What asyncio's transports lack at the end of a connection: a real reset, and how much the peer has yet to get."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
from typing import Final

_LINGER_NOT_AT_ALL: Final = struct.pack("ii", 1, 0)


def reset(transport: asyncio.Transport) -> None:
    """End the connection with a TCP reset; what the peer has not got yet is lost."""
    # uvloop's abort() alone sends FIN.
    pair = transport.get_extra_info("socket")
    if pair is not None:
        pair.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT_AT_ALL)
    transport.abort()


def unsent_bytes(transport: asyncio.Transport) -> int:
    """How many bytes in the kernel's send queue the peer has not acknowledged (SIOCOUTQ, tcp(7)); 0: unknown, too."""
    pair = transport.get_extra_info("socket")
    try:
        return int.from_bytes(fcntl.ioctl(pair.fileno(), termios.TIOCOUTQ, bytes(4)), "little")
    except (AttributeError, OSError, ValueError):
        return 0
